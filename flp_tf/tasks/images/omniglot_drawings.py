"""Sources of Omniglot's drawings: tensorflow-datasets, or archives on disk."""

import contextlib
import hashlib
import http.client
import queue
import re
import threading
import urllib.error
import urllib.request
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import NamedTuple

from flp_tf.errors import InputError
from flp_tf.files import check_writable

EVALUATION = "images_evaluation"
# The official archives, with the checksums that tensorflow-datasets pins.
ARCHIVES = {
    "images_background": "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
    EVALUATION: "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
    "images_background_small1": "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
    "images_background_small2": "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
}
EXPECTED = f"one or more of {', '.join(f'{name}.zip' for name in ARCHIVES)}, or their unpacked folders"
# Where tensorflow-datasets gets them from, and the seconds in which it has to answer.
DOWNLOADS, PATIENCE = "https://github.com/brendenlake/omniglot", 6.0
# The path of a drawing inside an archive: Greek/character01/0394_01.png
# Names that start with a dot are of the system, such as `._0394_01.png` of a Mac.
DRAWING = re.compile(r"(?P<alphabet>[^/.][^/]*)/(?P<character>character\d+)/(?P<name>[^/.][^/]*\.png)")


class Character(NamedTuple):
    """A class of Omniglot; unique by alphabet and number, whatever archive holds it."""

    alphabet: str
    character: str


class Drawings(NamedTuple):
    """The drawings of all classes, as PNG files by name: `{character: {name: png}}`.

    Attributes:
        classes: the drawings. An archive that repeats a class adds nothing to it.
        evaluation_alphabets: alphabets of the official evaluation set, the paper's
            meta-test classes.
    """

    classes: dict[Character, dict[str, bytes]]
    evaluation_alphabets: set[str]


class Source(NamedTuple):
    """Drawings to be read if need be.

    Attributes:
        name: for messages.
        flag: the flag that chooses it, for messages.
        key: tells the drawings from those of other sources.
        read: returns them.
    """

    name: str
    flag: str
    key: str
    read: Callable[[], Drawings]


def from_archives(folder: Path) -> Source:
    """Returns the drawings of the official archives in a folder.

    Args:
        folder: holds any of the archives, as zip files, whose checksums are verified,
            or as unpacked trees `images_background/Greek/character01/0394_01.png`.

    Raises:
        InputError: if there is no archive, or a damaged one.
    """
    if not folder.is_dir():
        raise InputError(f"--omniglot_archives={folder} is not a folder; expected there: {EXPECTED}")
    found = {name: path for name in ARCHIVES for path in (folder / name, folder / f"{name}.zip") if path.exists()}
    if not found:
        raise InputError(f"--omniglot_archives={folder} holds no archive; expected there: {EXPECTED}")
    identities = [f"{name} {_identity(name, path)}" for name, path in found.items()]
    key = hashlib.sha256("\n".join(identities).encode()).hexdigest()[:16]
    return Source(f"{folder} ({', '.join(found)})", "--omniglot_archives", key, lambda: _read_archives(found))


def from_tensorflow_datasets(data_dir: Path) -> Source:
    """Returns the drawings of `tfds.load("omniglot")`, downloaded at first use.

    Raises:
        InputError: when read, if they can be neither found in `data_dir` nor downloaded.
    """
    return Source("tensorflow-datasets", "--task=omniglot", "tfds", lambda: _read_tensorflow_datasets(data_dir))


def _identity(name: str, path: Path) -> str:
    """Returns what tells an archive from others; raises InputError if it is damaged."""
    if path.is_dir():
        with _readable(path):
            files = sorted((file, file.stat()) for file in _files(path))
        listing = [f"{file.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}" for file, stat in files]
        return hashlib.sha256("\n".join(listing).encode()).hexdigest()
    with _readable(path):
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    if checksum != ARCHIVES[name]:
        raise InputError(
            f"--omniglot_archives={path.parent}: {path.name} is damaged or not the official archive; "
            f"expected sha256 {ARCHIVES[name]}, found {checksum}"
        )
    return checksum


def _read_archives(found: dict[str, Path]) -> Drawings:
    classes, evaluation_alphabets = defaultdict(dict), set()
    for archive, path in found.items():
        for relative, png in _read_tree(path) if path.is_dir() else _read_zip(path):
            match = DRAWING.fullmatch(relative)
            if match:
                classes[Character(match["alphabet"], match["character"])][match["name"]] = png
                if archive == EVALUATION:
                    evaluation_alphabets.add(match["alphabet"])
    if not classes:
        paths = ", ".join(str(path) for path in found.values())
        raise InputError(f"--omniglot_archives: no drawings in {paths}; expected there: ALPHABET/characterNN/*.png")
    return Drawings(classes, evaluation_alphabets)


def _read_tree(path: Path) -> Iterator[tuple[str, bytes]]:
    for file in _files(path):
        with _readable(path):
            content = file.read_bytes()
        yield file.relative_to(path).as_posix(), content


def _files(path: Path) -> Iterator[Path]:
    """Yields the drawings of an unpacked archive."""
    for file in path.glob("*/character*/*.png"):
        if DRAWING.fullmatch(file.relative_to(path).as_posix()):
            yield file


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns a failure to read a file of an archive into one line."""
    try:
        yield
    except OSError as error:
        raise InputError(f"--omniglot_archives: {error.filename or path} cannot be read: {error.strerror}") from None


def _read_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield PurePath(name).relative_to(path.stem).as_posix(), archive.read(name)


def _read_tensorflow_datasets(data_dir: Path) -> Drawings:
    local = [
        path for pattern in ("omniglot/*/dataset_info.json", "downloads/*omniglot*") for path in data_dir.glob(pattern)
    ]
    if not local:
        if not _reachable():
            raise _offline(data_dir, f"no answer from {DOWNLOADS.partition('//')[2].partition('/')[0]}")
        check_writable(data_dir, "data_dir")
    # Imported here: it takes seconds, and most tasks do not need it.
    import tensorflow_datasets as tfds

    try:
        splits, info = tfds.load(
            "omniglot",
            split={"train": "train", "test": "test"},
            data_dir=data_dir,
            with_info=True,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
    except (OSError, tfds.download.DownloadError) as error:
        raise _offline(data_dir, type(error).__name__) from error
    alphabets = info.features["alphabet"]
    classes, evaluation_alphabets = defaultdict(dict), set()
    for split, examples in splits.items():
        for example in examples.as_numpy_iterator():
            alphabet = alphabets.int2str(example["alphabet"])
            drawings = classes[Character(alphabet, f"character{example['alphabet_char_id'] + 1:02d}")]
            drawings[f"{split}_{len(drawings):02d}"] = example["image"]
            if split == "test":
                evaluation_alphabets.add(alphabet)
    return Drawings(classes, evaluation_alphabets)


def _offline(data_dir: Path, reason: str) -> InputError:
    return InputError(
        f"--task=omniglot is neither in --data_dir={data_dir} nor can be downloaded ({reason}); "
        "offline, --omniglot_archives=DIR reads the official archives"
    )


def _reachable() -> bool:
    """Returns whether the host of the downloads answers within `PATIENCE` seconds, through a proxy if there is one.

    tensorflow-datasets tries again and again for minutes.
    """
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(DOWNLOADS, method="HEAD"), timeout=PATIENCE).close()
            answers.put(True)
        except urllib.error.HTTPError:
            # It answers, whatever it says.
            answers.put(True)
        except (OSError, http.client.HTTPException):
            answers.put(False)

    # In a thread, because looking up a name has no time limit.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=PATIENCE)
    except queue.Empty:
        return False
