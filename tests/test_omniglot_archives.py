"""Omniglot's archives on disk: official ones, ones that are packed anew, parts, and damaged ones."""

import hashlib
import io
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.runs.config import configure
from flp_tf.tasks import omniglot
from flp_tf.tasks.images import omniglot_official
from flp_tf.tasks.images.omniglot_official import BACKGROUND, DRAWINGS, EVALUATION, Archive

FULL = Path(__file__).resolve().parents[2] / "shared" / "data" / "omniglot_full"
needs_omniglot = pytest.mark.skipif(not (FULL / "images_evaluation.zip").exists(), reason=f"no Omniglot in {FULL}")
# Two small archives in the place of the official ones.
CONTENT = {BACKGROUND: {"Alpha": 4, "Beta": 7}, EVALUATION: {"Zeta": 3}}
SMALL = {"ways": 2, "shots": 2, "query_size": 1, "image_size": 8}


def drawing(*place):
    """The PNG file of a drawing that no other class has: black on white."""
    pixels = np.random.default_rng([*"/".join(place).encode()]).random((16, 16, 1)) < 0.3
    return tf.io.encode_png(np.where(pixels, 0, 255).astype(np.uint8)).numpy()


def files_of(archive):
    """The content of an archive: PNG files by path."""
    return {
        f"{archive}/{alphabet}/character{c:02d}/{d:04d}_{c:02d}.png": drawing(alphabet, str(c), str(d))
        for alphabet, characters in CONTENT[archive].items()
        for c in range(1, characters + 1)
        for d in range(1, DRAWINGS + 1)
    }


def pack(folder, archive, files):
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{archive}.zip", "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """A folder with both archives, packed anew."""
    for archive, alphabets in CONTENT.items():
        monkeypatch.setitem(omniglot_official.ARCHIVES, archive, Archive("0" * 64, alphabets))
        pack(tmp_path / "archives", archive, files_of(archive))
    return tmp_path / "archives"


def load(tmp_path, **given):
    folder = {"omniglot_archives": str(tmp_path / "archives"), "data_dir": str(tmp_path / "data")}
    return omniglot.Omniglot(**{**folder, **SMALL, **given})


def assert_same_images(one, other):
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(one.images[split], other.images[split])


def test_archives_packed_anew_are_taken_with_a_line(tmp_path, archives, capsys):
    """The split is the paper's: classes of the evaluation set are for meta-test, of the others some for validation."""
    task = load(tmp_path)
    said = capsys.readouterr().err
    assert [task.num_classes(split) for split in ("train", "validation", "test")] == [9, 2, 3]
    assert "images_background.zip is packed anew; it has the official 2 alphabets, 11 characters, 20 dr" in said
    assert "images_evaluation.zip is packed anew; it has the official 1 alphabets, 3 characters, 20 dra" in said
    assert "14 classes of 3 alphabets in " in said and "3 test (the evaluation set, as in the paper)" in said
    load(tmp_path)
    assert capsys.readouterr().err == said


def test_nothing_is_said_of_official_archives(tmp_path, archives, monkeypatch, capsys):
    again = load(tmp_path)
    for archive, alphabets in CONTENT.items():
        checksum = hashlib.sha256((archives / f"{archive}.zip").read_bytes()).hexdigest()
        monkeypatch.setitem(omniglot_official.ARCHIVES, archive, Archive(checksum, alphabets))
    capsys.readouterr()
    assert_same_images(load(tmp_path), again)
    said = capsys.readouterr().err
    assert "packed anew" not in said and said.count("\n") == 1


def test_zip_is_read_like_its_tree(tmp_path, archives):
    packed = load(tmp_path)
    for path in list(archives.iterdir()):
        shutil.unpack_archive(path, archives)
        path.unlink()
    assert_same_images(load(tmp_path), packed)
    assert len(list((tmp_path / "data" / "flp_tf").iterdir())) == 2, "the tree had the cache of the zip file"


def test_order_and_packing_of_an_archive_do_not_matter(tmp_path, archives):
    first = load(tmp_path)
    files = list(files_of(BACKGROUND).items())
    np.random.default_rng(0).shuffle(files)
    pack(archives, BACKGROUND, dict(files))
    assert_same_images(load(tmp_path), first)


MAC = (
    "__MACOSX/images_background/Alpha/character01/._0001_01.png",
    "images_background/Alpha/character01/._0001_01.png",
)


@pytest.mark.parametrize("unpacked", [False, True])
def test_files_of_the_system_are_skipped_with_a_count(tmp_path, archives, capsys, unpacked):
    expected = load(tmp_path)
    system = dict.fromkeys((*MAC, "images_background/.DS_Store"), b"not an image")
    pack(archives, BACKGROUND, {**system, **files_of(BACKGROUND)})
    if unpacked:
        shutil.unpack_archive(archives / f"{BACKGROUND}.zip", archives)
        (archives / f"{BACKGROUND}.zip").unlink()
    assert_same_images(load(tmp_path), expected)
    count = 2 if unpacked else 3  # `__MACOSX` is beside the tree.
    assert f"{BACKGROUND}{'' if unpacked else '.zip'}: skipped {count} files that are no drawings" in (
        capsys.readouterr().err
    )


def test_a_name_that_is_not_utf8_is_refused_or_skipped(tmp_path, archives, capsys):
    shutil.unpack_archive(archives / f"{BACKGROUND}.zip", archives)
    (archives / f"{BACKGROUND}.zip").unlink()
    stray = archives / BACKGROUND / os.fsdecode(b"\xff.png")
    stray.write_bytes(b"")
    load(tmp_path)
    assert f"{BACKGROUND}: skipped 1 files that are no drawings" in capsys.readouterr().err
    (drawing,) = (archives / BACKGROUND).glob("Alpha/character01/0001_01.png")
    drawing.rename(drawing.with_name(os.fsdecode(b"\xff.png")))
    with pytest.raises(InputError, match=r"character01/\\udcff.png', a name that is not UTF-8; rename it"):
        load(tmp_path)


def test_a_pipe_in_the_place_of_an_archive_is_not_waited_for(tmp_path, archives):
    (archives / f"{BACKGROUND}.zip").unlink()
    os.mkfifo(archives / f"{BACKGROUND}.zip")
    with pytest.raises(InputError, match=rf"{BACKGROUND}\.zip cannot be read: it is no file"):
        load(tmp_path)


def without(part):
    return lambda files: {name: content for name, content in files.items() if part not in name}


def renamed(old, new):
    return lambda files: {name.replace(old, new): content for name, content in files.items()}


@pytest.mark.parametrize(
    "change, message",
    [
        (without("/Beta/"), "it lacks 1 of 2 alphabets, such as Beta"),
        (without("/Beta/character03/"), "it lacks Beta/character03, of 7 characters"),
        (without("character02/0011_02"), "Alpha/character02 has 19 drawings, not 20"),
        (renamed("Beta/character07", "Beta/character08"), "it lacks Beta/character07, of 7 characters"),
        (renamed("Beta/character07", "Gamma/character01"), "it has the alphabet Gamma, which the official"),
        (lambda files: {**files, "images_background/Beta/character08/0001_08.png": b""}, "it has Beta/character08"),
    ],
)
def test_archive_with_other_content_is_refused_by_name(tmp_path, archives, change, message):
    pack(archives, BACKGROUND, change(files_of(BACKGROUND)))
    whole = r"--omniglot_archives=\S*/archives: images_background.zip is damaged: neither .* official one's: "
    with pytest.raises(InputError, match=f"^{whole}{message}") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("inside", ["omniglot/", ""])
def test_archive_with_other_folders_is_told_what_was_expected(tmp_path, archives, inside):
    """Either the whole inside another folder, or its content without the folder of its name."""
    files = {name if inside else name.partition("/")[2]: content for name, content in files_of(BACKGROUND).items()}
    pack(archives, BACKGROUND, {f"{inside}{name}": content for name, content in files.items()})
    expected = "no drawing at images_background/ALPHABET/characterNN/[*].png, but, for one, "
    with pytest.raises(InputError, match=f"images_background.zip has {expected}{inside}.*/character01/0001_01.png$"):
        load(tmp_path)


def test_an_entry_that_is_twice_in_an_archive_is_named(tmp_path, archives):
    with zipfile.ZipFile(archives / f"{BACKGROUND}.zip", "a") as packed, pytest.warns(UserWarning, match="Duplicate"):
        packed.writestr("images_background/Beta/character02/0007_02.png", b"")
    with pytest.raises(InputError, match=r"is damaged: images_background/Beta/character02/0007_02\.png is in it twice"):
        load(tmp_path)


def test_an_archive_beside_its_tree_is_refused(tmp_path, archives):
    shutil.unpack_archive(archives / f"{BACKGROUND}.zip", archives)
    with pytest.raises(InputError, match="holds both images_background and images_background.zip; expected one of"):
        load(tmp_path)


def test_a_tree_that_is_a_part_is_not_called_the_evaluation_set(tmp_path, archives, capsys):
    shutil.unpack_archive(archives / f"{EVALUATION}.zip", archives)
    (archives / f"{EVALUATION}.zip").unlink()
    load(tmp_path)
    assert "(the evaluation set, as in the paper)" in (said := capsys.readouterr().err) and "not the whole" not in said
    shutil.rmtree(archives / EVALUATION / "Zeta" / "character02")
    load(tmp_path)
    said = capsys.readouterr().err
    assert "images_evaluation is not the whole official archive: it lacks Zeta/character02, of 3 charac" in said
    assert "2 test (Zeta)" in said and "as in the paper" not in said


def test_the_drawing_of_another_size_and_the_character_of_another_count_are_named(tmp_path, archives):
    shutil.unpack_archive(archives / f"{BACKGROUND}.zip", archives)
    (archives / f"{BACKGROUND}.zip").unlink()
    first = archives / BACKGROUND / "Alpha" / "character01"
    content = (first / "0001_01.png").read_bytes()
    (first / "0001_01.png").write_bytes(tf.io.encode_png(np.zeros((8, 16, 1), np.uint8)).numpy())
    with pytest.raises(
        InputError, match="Alpha/character01/0001_01.png in .* has 16x8 pixels; expected 16x16, as most"
    ):
        load(tmp_path)
    (first / "0001_01.png").write_bytes(content)
    (first / "0021_01.png").write_bytes(content)
    with pytest.raises(InputError, match="Alpha/character01 has 21 drawings in .*, other classes have 20; unpack"):
        load(tmp_path)


def test_more_ways_than_half_of_the_classes_are_refused(tmp_path, archives):
    """Meta-training and validation need as many each."""
    with pytest.raises(InputError, match="--ways=6 is more than half of the 11 classes .*; legal values are 2 to 5$"):
        load(tmp_path, ways=6)
    task = load(tmp_path, ways=3)
    assert [task.num_classes(split) for split in ("train", "validation", "test")] == [8, 3, 3]


def flipped(content):
    """One byte inside the first drawing of a zip file, which its checksum reveals."""
    position = content.index(b"IDAT") + 6
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda content: content[:-1000], "it is cut off, or no zip file"),
        (lambda content: b"", "it is cut off, or no zip file"),
        (lambda content: b"<html>not found</html>", "it is cut off, or no zip file"),
        (flipped, "images_evaluation/Zeta/character01/0001_01.png in it cannot be read"),
    ],
)
def test_broken_archive_is_refused_by_name(tmp_path, archives, damage, message):
    path = archives / "images_evaluation.zip"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=f"archives: images_evaluation.zip is damaged: {message}; copy or") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"x", "is not a PNG image")])
def test_damaged_drawing_is_named(tmp_path, archives, content, message):
    pack(archives, BACKGROUND, {**files_of(BACKGROUND), "images_background/Beta/character02/0007_02.png": content})
    with pytest.raises(InputError, match=f"Beta/character02/0007_02.png in .* {message}; expected a PNG image"):
        load(tmp_path)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """All of Omniglot, as the two flags that a user gives make it."""
    cache = tmp_path_factory.mktemp("cache")
    config = configure(task="omniglot", omniglot_archives=str(FULL), data_dir=str(cache))
    return config, config.make_task()


@needs_omniglot
@pytest.mark.slow
def test_all_of_omniglot_in_the_split_of_the_paper(real, monkeypatch):
    config, task = real
    assert [task.images[split].shape[:2] for split in ("train", "validation", "test")] == [
        (964 - 96, 20),
        (96, 20),
        (659, 20),
    ]
    monkeypatch.setattr(omniglot, "decode_ink", None)
    assert_same_images(config.make_task(), task)


@needs_omniglot
@pytest.mark.slow
def test_meta_test_drawings_are_those_of_the_evaluation_set(real):
    Image = pytest.importorskip("PIL.Image")
    _, task = real
    size = task.input_shape[0]
    with zipfile.ZipFile(FULL / "images_evaluation.zip") as archive:
        names = sorted(name for name in archive.namelist() if "/Angelic/character01/" in name and name[-1] != "/")
        inks = [255 - np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("L")) for name in names]
    expected = [np.asarray(Image.fromarray(ink).resize((size, size), Image.Resampling.BILINEAR), int) for ink in inks]
    assert np.abs(task.images["test"][0, ..., 0].numpy().astype(int) - np.stack(expected)).max() <= 1
