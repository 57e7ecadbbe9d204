"""mini-ImageNet from a generated folder of the published layout."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.registry import Choice
from flp_tf.tasks import TASKS

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "mini_imagenet_ravi"
IMAGES = 4
SPLITS = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}
CLASSES = {"train": 5, "validation": 3, "test": 4}


def load(folder, data_dir, **given):
    small = {"ways": 3, "shots": 2, "query_size": 2, "image_size": 8}
    where = {"mini_imagenet_dir": str(folder), "data_dir": str(data_dir)}
    options = TASKS.options("mini_imagenet")(**{**small, **where, **given})
    return Choice(TASKS["mini_imagenet"], options)()


def color(split, label):
    """A color that no other class has, far enough apart for JPEG."""
    return np.array([40 + 80 * list(SPLITS).index(split), 10 + label * 11 % 240, 10 + label * 71 % 240])


def write_image(path, rgb, height=12, width=20):
    pixels = np.broadcast_to(np.asarray(rgb, np.uint8), (height, width, 3))
    path.write_bytes(tf.io.encode_jpeg(pixels, quality=100, chroma_downsampling=False).numpy())


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("filename", "label"), *rows])


def write_tree(folder, rows_of):
    """Makes csv files and images, flat ones whose color tells the class: `{split: [(name, label)]}`."""
    (folder / "images").mkdir(parents=True)
    for split, rows in rows_of.items():
        write_csv(folder / SPLITS[split], rows)
        labels = sorted({label for _, label in rows})
        for name, label in rows:
            write_image(folder / "images" / name, color(split, labels.index(label)))
    return folder


@pytest.fixture
def folder(tmp_path):
    rows = {
        split: [(f"n{split}{c}_{i}.jpg", f"n{split}{c}") for c in range(count) for i in range(IMAGES)]
        for split, count in CLASSES.items()
    }
    return write_tree(tmp_path / "mini", rows)


def classes_of(task, split):
    """The class of each row of images, by its color."""
    images = task.images[split].numpy().astype(int)
    assert (images.max((1, 2, 3)) - images.min((1, 2, 3))).max() < 4, "a row holds images of two classes"
    colors = np.stack([color(split, label) for label in range(len(images))])
    return np.abs(images.mean((1, 2, 3))[:, None] - colors).sum(-1).argmin(-1)


def test_every_image_lands_in_its_split_and_class(folder, tmp_path):
    task = load(folder, tmp_path / "data")
    for split, count in CLASSES.items():
        assert task.images[split].shape == (count, IMAGES, 8, 8, 3)
        np.testing.assert_array_equal(classes_of(task, split), range(count))
    episode = task.sample(0, tf.constant(0), 2, "train")
    assert episode.support_x.shape == (6, 2, 1, 8, 8, 3) and episode.query_x.shape == (2, 6, 8, 8, 3)
    assert TASKS["mini_imagenet"].signature(ways=3, image_size=8) == (task.input_shape, task.num_outputs, task.loss)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no split of Ravi & Larochelle in {REAL}")
def test_published_split_is_64_16_20_classes(tmp_path):
    """The real csv files, of each class the first images only."""
    rows = {}
    for split, name in SPLITS.items():
        by_class = {}
        with (REAL / name).open() as file:
            for row in csv.DictReader(file):
                by_class.setdefault(row["label"], []).append((row["filename"], row["label"]))
        assert {len(listed) for listed in by_class.values()} == {600}
        rows[split] = [row for listed in by_class.values() for row in listed[:IMAGES]]
    task = load(write_tree(tmp_path / "mini", rows), tmp_path / "data")
    for split, count in {"train": 64, "validation": 16, "test": 20}.items():
        assert task.num_classes(split) == count
        np.testing.assert_array_equal(classes_of(task, split), range(count))


def test_dataset_is_prepared_once_for_each_folder(folder, tmp_path, monkeypatch):
    builders = pytest.importorskip("flp_tf.tasks.images.mini_imagenet_builder")
    first = load(folder, tmp_path / "data")
    monkeypatch.setattr(builders.MiniImagenetRavi, "_generate_examples", None)
    again = load(folder, tmp_path / "data")
    np.testing.assert_array_equal(again.images["test"], first.images["test"])
    monkeypatch.undo()
    write_image(folder / "images" / "ntest0_0.jpg", [255, 0, 0], 30, 30)
    changed = load(folder, tmp_path / "data")
    assert np.any(changed.images["test"] != first.images["test"])


def test_an_image_that_was_mended_at_the_same_size_is_read_again(folder, tmp_path):
    path = folder / "images" / "ntest0_0.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:300] + bytes(len(whole) - 600) + whole[-300:])
    load(folder, tmp_path / "data")
    path.write_bytes(whole)
    os.utime(path, (1, 1))
    np.testing.assert_array_equal(classes_of(load(folder, tmp_path / "data"), "test"), range(CLASSES["test"]))


def test_images_of_larger_classes_are_left_out_with_a_count(folder, tmp_path, capsys):
    whole = load(folder, tmp_path / "data")
    assert "left out" not in (said := capsys.readouterr().err) and "5 train classes of 4 images, 3 val" in said
    rewrite(folder, "train.csv", lambda rows: rows[:-1])
    task = load(folder, tmp_path / "data", shots=1)
    said = capsys.readouterr().err
    assert "5 train classes of 3 images, 3 validation classes of 4 images, 4 test classes of 4 images in " in said
    assert "train.csv names 4 images that are left out, as some classes have fewer" in said
    np.testing.assert_array_equal(np.sort(task.images["test"], 1), np.sort(whole.images["test"], 1))
    np.testing.assert_array_equal(classes_of(task, "train"), range(CLASSES["train"]))


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "name, damage", [("*test.tfrecord*", cut), ("*test.tfrecord*", os.unlink), ("dataset_info.json", cut)]
)
def test_damaged_prepared_images_are_told_in_one_line(folder, tmp_path, name, damage):
    load(folder, tmp_path / "data")
    (path,) = (tmp_path / "data").rglob(name)
    damage(path)
    with pytest.raises(
        InputError, match=r"--data_dir=.*/data: .* are damaged \(\w+\); delete .*mini_imagenet_ravi, "
    ) as e:
        load(folder, tmp_path / "data")
    assert "\n" not in str(e.value)


def test_preparation_says_what_it_does_and_not_that_it_downloads(folder, tmp_path, capsys, caplog):
    load(folder, tmp_path / "data")
    said = capsys.readouterr()
    assert "mini-ImageNet: preparing 48 images\n" in said.err and "ownload" not in said.out + said.err
    assert not [record for record in caplog.records if record.name == "absl"]


def test_images_are_scaled_with_antialiasing(folder, tmp_path):
    checkerboard = np.indices((16, 16)).sum(0)[..., None] % 2 * 255
    for i in range(IMAGES):
        write_image(folder / "images" / f"ntest1_{i}.jpg", checkerboard.repeat(3, -1), 16, 16)
    images = load(folder, tmp_path / "data").images["test"][1].numpy().astype(int)
    assert np.abs(images - 127).max() < 12


def test_images_that_are_not_square_are_counted_when_they_are_scaled(folder, tmp_path, capsys):
    images = sorted((folder / "images").iterdir())
    for shade, image in enumerate(images[3:]):
        write_image(image, [shade, shade, shade], 16, 16)
    load(folder, tmp_path / "data")
    assert "mini-ImageNet: images that are not square and are scaled to 8x8: 3\n" in capsys.readouterr().err
    for image in images[:3]:
        image.write_bytes(images[3].read_bytes())
    load(folder, tmp_path / "data")
    assert "square" not in capsys.readouterr().err


def test_files_that_no_csv_file_names_are_skipped_with_a_count(folder, tmp_path, capsys):
    expected = load(folder, tmp_path / "data")
    assert "skipped" not in capsys.readouterr().err
    for name in ("._ntest0_0.jpg", ".DS_Store", "other.jpg"):
        (folder / "images" / name).write_bytes(b"")
    task = load(folder, tmp_path / "data")
    assert "skipped 3 files in " in (said := capsys.readouterr().err) and "such as .DS_Store" in said
    np.testing.assert_array_equal(task.images["test"], expected.images["test"])


def test_a_link_to_nowhere_that_no_csv_file_names_is_skipped(folder, tmp_path, capsys):
    """Editors make such for a file that is open."""
    (folder / "images" / ".#x.jpg").symlink_to("/nowhere/at/all")
    (folder / "images" / os.fsdecode(b"!\xff.jpg")).write_bytes(b"not UTF-8")
    load(folder, tmp_path / "data")
    assert r"that no csv file names, such as !\udcff.jpg" in (said := capsys.readouterr().err) and "skipped 2" in said


def test_a_pipe_in_the_place_of_a_csv_file_is_not_waited_for(folder, tmp_path):
    (folder / "train.csv").unlink()
    os.mkfifo(folder / "train.csv")
    with pytest.raises(InputError, match=r"train\.csv cannot be read: it is no file"):
        load(folder, tmp_path / "data")


def rewrite(folder, name, change):
    with (folder / name).open(newline="") as file:
        rows = [tuple(row) for row in csv.reader(file)][1:]
    write_csv(folder / name, change(rows))


def break_nothing(folder):
    pass


def remove_val_csv(folder):
    os.unlink(folder / "val.csv")


def remove_images(folder):
    os.rename(folder / "images", folder / "pictures")


def remove_two_images(folder):
    os.unlink(folder / "images" / "ntest1_2.jpg")
    os.unlink(folder / "images" / "ntest2_0.jpg")


def shorten_class(folder):
    rewrite(folder, "val.csv", lambda rows: rows[:-1])


def share_class(folder):
    rewrite(folder, "test.csv", lambda rows: [*rows, *((f"ntrain0_{i}.jpg", "ntrain0") for i in range(IMAGES))])


def keep_header(folder):
    write_csv(folder / "test.csv", [])


def break_line(folder):
    rewrite(folder, "test.csv", lambda rows: [*rows, ("ntest0_0.jpg",)])


def drop_header(folder):
    (folder / "train.csv").write_text("ntrain0_0.jpg,ntrain0\n")


def break_image(folder):
    (folder / "images" / "ntrain1_0.jpg").write_bytes(b"not a picture")


def empty_images(folder):
    for name in ("ntrain1_0.jpg", "ntest0_3.jpg", "nvalidation0_1.jpg"):
        (folder / "images" / name).write_bytes(b"")


@pytest.mark.parametrize(
    "damage, flags, message",
    [
        (break_nothing, {"mini_imagenet_dir": ""}, "--mini_imagenet_dir is needed by --task=mini_imagenet; expected:"),
        (break_nothing, {"mini_imagenet_dir": "/nowhere"}, "--mini_imagenet_dir=/nowhere is not a folder; expected: a"),
        (break_nothing, {"ways": 4}, "--ways=4 is more than the 3 validation classes; legal values are 2 to 3"),
        (remove_val_csv, {}, "--mini_imagenet_dir=.*mini has no val.csv; expected: .*val.csv"),
        (remove_images, {}, "--mini_imagenet_dir=.*mini has no images; expected: .*images/"),
        (remove_two_images, {}, "lacks 2 of the 48 images .* expected, for one, .*mini/images/ntest1_2.jpg"),
        (shorten_class, {}, "--mini_imagenet_dir=.*class nvalidation2 has 3 images in val.csv; expected at least 4"),
        (share_class, {}, "--mini_imagenet_dir=.*has class ntrain0 in two of train.csv, val.csv, test.csv"),
        (break_line, {}, "--mini_imagenet_dir=.*line 18 of .*test.csv does not read; expected filename,label"),
        (keep_header, {}, "--mini_imagenet_dir=.*test.csv names no images; expected lines filename,label"),
        (drop_header, {}, "--mini_imagenet_dir=.*train.csv does not begin with filename,label"),
        (break_image, {}, "--mini_imagenet_dir.*images/ntrain1_0.jpg is damaged, or not a JPEG image$"),
        (empty_images, {}, "images/ntrain1_0.jpg is damaged, or not a JPEG image; so are 2 others$"),
    ],
)
def test_wrong_folders_are_told_in_one_line(folder, tmp_path, damage, flags, message):
    damage(folder)
    with pytest.raises(InputError, match=message) as error:
        load(folder, tmp_path / "data", **flags)
    assert "\n" not in str(error.value)
    if damage not in (break_image, empty_images):
        assert not (tmp_path / "data").exists(), "work began before the check"
