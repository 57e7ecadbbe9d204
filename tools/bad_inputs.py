"""Bad input, drawn at random: each case has to be refused in one line, and must not change anything."""

import io
import json
import random
import shutil
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from flp_tf.runs.sections import FIXED, Place, places

# Folder of caches, which a refused command may leave behind.
CACHE = "data"
SMALL = ("--network=8-8", "--episodes=2", "--ways=2", "--shots=1", "--query_size=1", "--image_size=8")
NOT_NUMBERS = ("", "x", "1,5", "²", "0x10", "--1", "nan", "inf", "1e39", "-1e39", "9" * 5000)
NOT_INTEGERS = ("1.5", "1e3", "99999999999", "2147483648", "-2147483649", *NOT_NUMBERS)
NOT_VERSIONS = (3, "abc", [1], None, {"flp_tf": 3}, {"flp_tf": "99.0.0"}, {"flp_tf": "9" * 5000 + ".0"})
NOT_TRUE_OR_FALSE = ("", "perhaps", "2", "None", "tru")


class Case(NamedTuple):
    """A command that has to be refused.

    Attributes:
        kind: what is wrong with it.
        arguments: of the command line.
        environment: variables in addition to those of the process.
    """

    kind: str
    arguments: list[str]
    environment: Mapping[str, str] = {}


def draw(rng: random.Random, folder: Path, run: Path) -> Case:
    """Returns a case of a random kind.

    Args:
        rng: source of randomness.
        folder: an empty folder, for files of the case.
        run: a finished run, to be copied.
    """
    return rng.choice(KINDS)(rng, folder, run)


def value(rng: random.Random, folder: Path, run: Path) -> Case:
    """Any option with a value of the wrong type, or out of range."""
    place = rng.choice([place for of_flag in places().values() for place in of_flag if wrong_values(place)])
    chosen = [] if place.section in FIXED else [f"--{place.section}={place.component}"]
    if place.component and place.section not in ("task", "method", "estimator"):
        chosen.append("--method=flp")
    text = rng.choice(wrong_values(place))
    return Case("values of flags", [*chosen, f"--{place.flag}={text}", f"--logdir={folder / 'run'}"])


def wrong_values(place: Place) -> list[str]:
    """Returns texts that are not legal values of an option; none for free texts."""
    metadata = place.field.metadata
    if metadata["legal"] is not None:
        return ["", "nonsense", "None"]
    if place.kind is bool:
        return list(NOT_TRUE_OR_FALSE)
    if place.kind in (int, float):
        least = metadata["least"]
        below = [str(place.kind(least - 1))] if least > -(2**31) else []
        return [*(NOT_INTEGERS if place.kind is int else NOT_NUMBERS), *below]
    if place.kind == tuple[int, ...]:
        return [f"1,{wrong}" for wrong in NOT_INTEGERS[1:] if "," not in wrong]
    return []


def flag(rng: random.Random, folder: Path, run: Path) -> Case:
    """A flag that is misspelt or of another component, or a word that is not a flag."""
    name = rng.choice(list(places()))
    misspelt = name.replace(rng.choice(name), rng.choice(string.ascii_lowercase + "²-. "), 1)
    argument = rng.choice([f"--{misspelt}x=1", f"--{name}_=1", "sine", "--", "=", "--=1", f"--no{name}=1", "--ways=3"])
    return Case("names of flags", [argument, "x", f"--logdir={folder / 'run'}"])


def grammar(rng: random.Random, folder: Path, run: Path) -> Case:
    """A curriculum or a network that cannot be parsed."""
    name = rng.choice(("curriculum", "network"))
    legal = {"curriculum": "0123456789:,", "network": "0123456789-cs"}[name]
    text = "".join(rng.choice(legal + "²x: -") for _ in range(rng.randint(1, 12)))
    # At most one of these is legal: a number alone as a network.
    return Case(
        f"--{name}", [f"--{name}={text}{rng.choice(('x', '²', '--', ':', '::1'))}", f"--logdir={folder / 'run'}"]
    )


def path(rng: random.Random, folder: Path, run: Path) -> Case:
    """A `--logdir` that cannot be a folder."""
    (folder / "file").write_text("x")
    (folder / "link").symlink_to(folder / "link")
    wrong = ["", "~nobody_of_this_name/x", "a\0b", "a\nb", "\udcff", "x" * 300, "/proc/x", "/dev/full/x"]
    wrong += [f"{scheme}://bucket/run" for scheme in ("gs", "s3", "hdfs", "ram", "file")]
    wrong += [str(folder / "file"), str(folder / "file" / "run"), str(folder / "link" / "run")]
    return Case("paths", [f"--logdir={rng.choice(wrong)}"])


def obstacle(rng: random.Random, folder: Path, run: Path) -> Case:
    """A folder with something in the place of a file or folder of the run."""
    target = folder / "run"
    target.mkdir()
    name = rng.choice(("export", "checkpoints", "config.json", "result.json"))
    make = {
        "file": lambda: (target / name).write_text("mine"),
        "folder": lambda: ((target / name).mkdir(), (target / name / "saved_model.pb").write_text("mine")),
        "dangling link": lambda: (target / name).symlink_to("/nowhere/at/all"),
    }
    # An empty folder for checkpoints is not in the way.
    kinds = ["file", "dangling link"] if name == "checkpoints" else list(make)
    make[rng.choice(kinds)]()
    return Case("obstacles in a folder", [f"--logdir={target}"])


def configuration(rng: random.Random, folder: Path, run: Path) -> Case:
    """A run with a `config.json` that was changed."""
    shutil.copytree(run, folder / "run")
    file = folder / "run" / "config.json"
    content = json.loads(file.read_text())
    name = rng.choice([name for name in content if name != "versions"])
    wrong = {bool: ["false", 1, None], int: ["4", 1.5, True, 10**30, None], float: ["4", True, None, 1e39]}
    changes = [
        lambda: json.dumps(content | {name: rng.choice(wrong.get(type(content[name]), [3, None, ["x"], {}]))}),
        lambda: json.dumps(content | {f"{name}_of_another_version": 1}),
        lambda: json.dumps(content | {"versions": rng.choice(NOT_VERSIONS)}),
        lambda: file.read_text()[: rng.randrange(len(file.read_text()) - 2)],
        lambda: rng.choice(["", "[]", "null", "NaN", "3", '"x"', "[" * 100_000]),
    ]
    file.write_text(rng.choice(changes)())
    mode = rng.choice(("evaluate", "export", "analyze"))
    further = ["--analysis=readout"] if mode == "analyze" else []
    return Case("config.json", [f"--mode={mode}", *further, f"--logdir={folder / 'run'}"])


def versions(rng: random.Random, folder: Path, run: Path) -> Case:
    """A folder with a `config.json` of another program, which has fields of the same names."""
    (folder / "taken").mkdir()
    content = {"task": "sine", "versions": rng.choice([None, *NOT_VERSIONS[:3], {"sine": "1.0"}])}
    (folder / "taken" / "config.json").write_text(json.dumps(content))
    return Case("obstacles in a folder", [f"--logdir={folder / 'taken'}"])


def drawing(rng: random.Random, folder: Path, run: Path) -> Case:
    """Omniglot with one drawing that is damaged, truncated, or has another format or size."""
    files = omniglot(folder / "archives")
    victim = rng.choice(files)
    content = bytearray(victim.read_bytes())
    position = rng.randrange(len(content))
    flipped = (
        bytes(content[:position]) + bytes([content[position] ^ 1 << rng.randrange(8)]) + bytes(content[position + 1 :])
    )
    other = [encoded(16, form) for form in ("JPEG", "GIF", "BMP")]
    victim.write_bytes(rng.choice([b"", b"x", bytes(content[:position]), flipped, encoded(9, "PNG"), *other]))
    where = [f"--omniglot_archives={folder / 'archives'}", f"--data_dir={folder / CACHE}"]
    return Case("drawings", ["--task=omniglot", *SMALL, *where, f"--logdir={folder / 'run'}"])


def listing(rng: random.Random, folder: Path, run: Path) -> Case:
    """mini-ImageNet with a csv file or an image that cannot be used."""
    root = folder / "mini"
    mini_imagenet(root)
    file = root / rng.choice(("train.csv", "val.csv", "test.csv"))
    content = file.read_bytes()
    first = content.splitlines()[1].split(b",")[0]
    texts = [b"", b"filename,label\n", content[:20], content + b"x\n", content + b"\xff,a\n", content[15:]]
    texts += [
        content.decode().encode("utf-16"),
        content + first + b",other\n",
        content + b"../x.jpg,a\n",
        content + b",\n",
    ]
    texts += [content + b"nowhere.jpg,a\n", content + b'"' + b"a" * 200_000 + b'",x\n', content + b'"x,y\n']
    image = root / "images" / first.decode()
    changes: list[Callable[[], object]] = [lambda: file.write_bytes(rng.choice(texts)), file.unlink]
    changes += [lambda: image.write_bytes(image.read_bytes()[: rng.randrange(200)]), image.unlink]
    changes += [lambda: shutil.move(root / "images", root / "pictures"), lambda: (image.unlink(), image.mkdir())]
    rng.choice(changes)()
    where = [f"--mini_imagenet_dir={root}", f"--data_dir={folder / CACHE}"]
    return Case("csv files and photographs", ["--task=mini_imagenet", *SMALL, *where, f"--logdir={folder / 'run'}"])


def cluster(rng: random.Random, folder: Path, run: Path) -> Case:
    """A `TF_CONFIG` that cannot be used."""
    address, own = "localhost:12345", {"type": "worker", "index": 0}
    jobs = (3, {"worker": []}, {"worker": ["x"]}, {"worker": ["x:y"]}, {"boss": [address]}, {"worker": [address] * 2})
    tasks = [3, {}, {"type": "worker"}, {"type": "boss", "index": 0}]
    tasks += [{"type": "worker", "index": index} for index in (1, -1, "x", True)]
    contents = [{"cluster": of, "task": own} for of in jobs]
    contents += [{"cluster": {"worker": [address]}, "task": task} for task in tasks]
    wrong = ["", "{", "[]", "3", "null", "{}", '{"cluster": {}}', "[" * 100_000, *map(json.dumps, contents)]
    arguments = ["--distribution=multi_worker", f"--logdir={folder / 'run'}"]
    return Case("TF_CONFIG", arguments, {"TF_CONFIG": rng.choice(wrong)})


def flagfile(rng: random.Random, folder: Path, run: Path) -> Case:
    """A flagfile that is missing, a folder, binary, or names itself."""
    file = folder / "flags.cfg"
    file.write_bytes(
        rng.choice([bytes(range(256)), b"\xff", b"a\0b", b"--flagfile=flags.cfg\n", b"sine\n", b"--episodes\n"])
    )
    name = rng.choice([str(file), str(folder), str(folder / "nowhere"), "", "~nobody_of_this_name/x", "a\0b"])
    return Case("flagfiles", [f"--flagfile={name}", f"--logdir={folder / 'run'}"])


def analysis(rng: random.Random, folder: Path, run: Path) -> Case:
    """An analysis of missing runs, or into a path that is not a folder."""
    shutil.copytree(run, folder / "run")
    (folder / "file").write_text("x")
    (folder / "taken").mkdir()
    (folder / "taken" / f"readout.{rng.choice(('png', 'csv'))}").write_text("mine")
    there = str(folder / "run")
    missing = rng.choice([str(folder / "nowhere"), f"{there},", f"{there},{folder / 'nowhere'}", ""])
    outputs = [str(folder / "file"), "gs://bucket/x", str(folder / "taken")]
    where = rng.choice([[f"--logdir={missing}"], [f"--logdir={there}", f"--output={rng.choice(outputs)}"]])
    return Case("analyses", ["--mode=analyze", "--analysis=readout", *where])


KINDS = (
    value,
    value,
    value,
    flag,
    grammar,
    path,
    obstacle,
    configuration,
    versions,
    drawing,
    listing,
    cluster,
    flagfile,
    analysis,
)


def encoded(size: int, form: str) -> bytes:
    """Returns a picture of `size` x `size` pixels as a file of a format such as PNG."""
    file = io.BytesIO()
    Image.fromarray((np.arange(size * size) % 251).reshape(size, size).astype(np.uint8)).save(file, form)
    return file.getvalue()


def omniglot(root: Path) -> list[Path]:
    """Makes an unpacked archive of 16 small classes; returns its drawings."""
    files = []
    for number in range(16):
        of_class = root / "images_background" / f"Alphabet{number // 4}" / f"character{number % 4 + 1:02d}"
        of_class.mkdir(parents=True)
        for drawing in range(2):
            files.append(of_class / f"{number:04d}_{drawing:02d}.png")
            files[-1].write_bytes(encoded(16, "PNG"))
    return files


def mini_imagenet(root: Path) -> None:
    """Makes a folder of mini-ImageNet with two small classes in each split."""
    (root / "images").mkdir(parents=True)
    for split in ("train", "val", "test"):
        names = [(f"{split}{number}_{i}.jpg", f"{split}{number}") for number in range(2) for i in range(2)]
        lines = ["filename,label", *(",".join(pair) for pair in names)]
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
        for name, _ in names:
            (root / "images" / name).write_bytes(encoded(16, "JPEG"))
