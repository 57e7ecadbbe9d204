"""Omniglot from archives, trees and tensorflow-datasets: which drawings end up where."""

import io
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.registry import Choice
from flp_tf.tasks import TASKS, omniglot
from flp_tf.tasks.images import omniglot_drawings

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_archives = pytest.mark.skipif(
    not (REAL / "images_background_small1.zip").exists(), reason=f"no Omniglot archives in {REAL}"
)
REAL_ALPHABETS = {
    "Balinese": 24,
    "Early_Aramaic": 22,
    "Greek": 24,
    "Japanese_(katakana)": 47,
    "Korean": 40,
    "Latin": 26,
    "Sanskrit": 42,
    "Tagalog": 17,
}
SMALL = {"ways": 2, "shots": 2, "query_size": 1, "image_size": 105}
DRAWINGS = 3


def options(tmp_path, **given):
    return {"data_dir": str(tmp_path / "data"), **SMALL, **given}


def load(tmp_path, **given):
    return omniglot.Omniglot(**options(tmp_path, omniglot_archives=str(tmp_path / "archives"), **given))


def picture(alphabet, character, drawing):
    """A drawing that no other class or drawing equals: black (0) pixels on white."""
    rng = np.random.default_rng([*alphabet.encode(), character, drawing])
    return np.where(rng.random((105, 105, 1)) < 0.1, 0, 255).astype(np.uint8)


def draw(folder, alphabet, characters, drawings=DRAWINGS):
    for character in characters:
        of_class = folder / alphabet / f"character{character:02d}"
        of_class.mkdir(parents=True)
        for drawing in range(1, drawings + 1):
            png = tf.io.encode_png(picture(alphabet, character, drawing)).numpy()
            (of_class / f"{sum(alphabet.encode()) + character:04d}_{drawing:02d}.png").write_bytes(png)


@pytest.fixture
def archives(tmp_path):
    """Two trees that share Beta: Alpha 1-4, Beta 1-4, Gamma 1-2, Delta 1-3."""
    small1, small2 = (tmp_path / "archives" / f"images_background_small{i}" for i in (1, 2))
    draw(small1, "Alpha", range(1, 5))
    draw(small1, "Beta", range(1, 5))
    draw(small2, "Beta", range(1, 5))
    draw(small2, "Gamma", range(1, 3))
    draw(small2, "Delta", range(1, 4))
    return tmp_path / "archives"


def ink_of(task, split):
    """The drawings of a split as the task holds them, as a set."""
    classes = task.images[split].numpy()
    return {drawing.tobytes() for of_class in classes for drawing in of_class}


def expected_ink(alphabet, characters):
    return {(255 - picture(alphabet, c, d)).tobytes() for c in characters for d in range(1, DRAWINGS + 1)}


def test_archives_are_merged_and_split_by_alphabet(tmp_path, archives, capsys):
    task = load(tmp_path, meta_test_alphabets=("Beta",))
    assert ink_of(task, "test") == expected_ink("Beta", range(1, 5))
    everything = set().union(*(expected_ink(a, range(1, n + 1)) for a, n in (("Alpha", 4), ("Gamma", 2), ("Delta", 3))))
    assert ink_of(task, "train") | ink_of(task, "validation") == everything
    assert not ink_of(task, "train") & ink_of(task, "validation")
    assert [task.num_classes(split) for split in ("train", "validation", "test")] == [7, 2, 4]
    said = capsys.readouterr().err
    assert "13 classes of 4 alphabets" in said and "4 test (Beta)" in said


def test_what_a_network_is_made_of_is_known_without_drawings(tmp_path, archives):
    task = load(tmp_path, image_size=20)
    signature = omniglot.Omniglot.signature(**options(tmp_path, image_size=20, omniglot_archives="nowhere"))
    assert signature == (task.input_shape, task.num_outputs, task.loss)


def test_meta_test_alphabets_have_a_default(tmp_path, archives):
    task = load(tmp_path)
    assert ink_of(task, "test") == expected_ink("Gamma", range(1, 3))


def test_evaluation_alphabets_are_meta_test_where_they_are_there(tmp_path, archives):
    draw(archives / "images_evaluation", "Zeta", range(1, 4))
    assert ink_of(load(tmp_path), "test") == expected_ink("Zeta", range(1, 4))
    assert ink_of(load(tmp_path, meta_test_alphabets=("Alpha", "Gamma")), "test") == (
        expected_ink("Alpha", range(1, 5)) | expected_ink("Gamma", range(1, 3))
    )


def test_every_tenth_class_is_for_validation():
    alphabets = np.repeat(["Alpha", "Beta", "Gamma"], [50, 70, 30])
    splits = omniglot.split_classes(alphabets, np.zeros(150, bool), ["Beta"], ways=5)
    assert [len(splits[split]) for split in ("train", "validation", "test")] == [72, 8, 70]
    np.testing.assert_array_equal(np.sort(np.concatenate(list(splits.values()))), np.arange(150))
    assert set(alphabets[splits["test"]]) == {"Beta"}
    assert "Beta" not in alphabets[[*splits["train"], *splits["validation"]]]


def test_images_are_decoded_once(tmp_path, archives, monkeypatch):
    first = ink_of(load(tmp_path), "train")
    monkeypatch.setattr(omniglot, "decode_ink", None)
    assert ink_of(load(tmp_path), "train") == first
    (cache,) = (tmp_path / "data" / "flp_tf").iterdir()
    assert cache.suffix == ".npz"


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_damaged_cache_is_made_again(tmp_path, archives, damage):
    first = ink_of(load(tmp_path), "train")
    (cache,) = (tmp_path / "data" / "flp_tf").iterdir()
    whole = cache.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 99]) + whole[middle + 99 :]
    cache.write_bytes({"cut": whole[:middle], "flipped": flipped, "empty": b""}[damage])
    assert ink_of(load(tmp_path), "train") == first
    with np.load(cache) as arrays:
        assert arrays["images"].shape == (13, DRAWINGS, 105, 105, 1)


def test_cache_follows_size_and_sources(tmp_path, archives):
    load(tmp_path)
    assert load(tmp_path, image_size=35).input_shape == (35, 35, 1)
    draw(archives / "images_background", "Eta", range(1, 3))
    task = load(tmp_path, meta_test_alphabets=("Eta",))
    assert ink_of(task, "test") == expected_ink("Eta", range(1, 3))
    assert len(list((tmp_path / "data" / "flp_tf").iterdir())) == 3


def test_downscaling_is_antialiased(tmp_path, archives):
    Image = pytest.importorskip("PIL.Image")
    task = load(tmp_path, image_size=28, meta_test_alphabets=("Gamma",))
    ink = 255 - picture("Gamma", 1, 1)[..., 0]
    expected = np.asarray(Image.fromarray(ink).resize((28, 28), Image.Resampling.BILINEAR), int)
    distances = [np.abs(drawing[..., 0].astype(int) - expected).max() for drawing in task.images["test"][0].numpy()]
    assert min(distances) <= 1
    assert sorted(distances)[1] > 20


def test_rotations_stay_in_meta_training(tmp_path, archives):
    task = load(tmp_path, rotations=True)
    assert [task.num_classes(split) for split in ("train", "validation", "test")] == [36, 2, 2]


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            {"meta_test_alphabets": ("Alpha", "Omega")},
            "--meta_test_alphabets=Alpha,Omega: there is no Omega; legal values: Alpha, Beta, Delta, Gamma",
        ),
        (
            {"meta_test_alphabets": ("Alpha", "Beta", "Delta", "Gamma")},
            "--meta_test_alphabets=.* leaves none of the alphabets",
        ),
        ({"ways": 3, "meta_test_alphabets": ("Gamma",)}, "--ways=3 is more than the 2 test classes"),
        ({"image_size": 7}, "--image_size=7 is too small; legal values are 8 or more"),
        ({"meta_test_alphabets": "Alpha"}, "--meta_test_alphabets='Alpha' is not of the right type; legal is texts"),
        ({"shots": 3}, "--shots=3 and --query_size=1 take 4 images .* at most 3"),
        ({"omniglot_archives": "/nowhere"}, "--omniglot_archives=/nowhere is not a folder; .*images_evaluation.zip"),
        ({"omniglot_archives": "archives/images_background_small1"}, "holds no archive; .*images_evaluation.zip"),
    ],
)
def test_wrong_flags_are_told_in_one_line(tmp_path, archives, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    # Decoding takes half a minute for all of Omniglot, so it comes after the checks.
    monkeypatch.setattr(omniglot, "decode_ink", None)
    with pytest.raises(InputError, match=message) as error:
        omniglot.Omniglot(**options(tmp_path, **{"omniglot_archives": "archives", **flags}))
    assert "\n" not in str(error.value)


def test_incomplete_tree_is_told_in_one_line(tmp_path, archives):
    next((archives / "images_background_small1" / "Alpha" / "character02").iterdir()).unlink()
    with pytest.raises(InputError, match="--omniglot_archives.*Alpha/character02 has 2 drawings.*have 3"):
        load(tmp_path)


def test_tensorflow_datasets_gives_the_official_split(tmp_path, monkeypatch):
    """Runs the real builder; only its download is replaced, by small trees."""
    tfds = pytest.importorskip("tensorflow_datasets")
    parts = {"train": "images_background", "eval": "images_evaluation", "small1": "small1", "small2": "small2"}
    folders = {key: tmp_path / key for key in parts}
    for key, alphabet in zip(folders, ("Alpha", "Zeta", "Alpha", "Alpha")):
        draw(folders[key] / parts[key], alphabet, range(1, 5))
    monkeypatch.setattr(omniglot_drawings, "_reachable", lambda: True)
    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", lambda self, urls: folders)
    monkeypatch.setattr(tfds.features.ClassLabel, "names", tfds.features.ClassLabel.names.setter(any_number_of_names))
    task = omniglot.Omniglot(**options(tmp_path))
    assert ink_of(task, "test") == expected_ink("Zeta", range(1, 5))
    assert ink_of(task, "train") | ink_of(task, "validation") == expected_ink("Alpha", range(1, 5))
    monkeypatch.setattr(tfds, "load", None)
    assert ink_of(omniglot.Omniglot(**options(tmp_path)), "test") == ink_of(task, "test")


def any_number_of_names(feature, names):
    """Omniglot's builder expects the names of 1,623 classes; the small trees have fewer."""
    feature._int2str, feature._str2int = names, {name: i for i, name in enumerate(names)}


def test_failed_download_says_how_to_work_offline(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")

    def download(self, urls):
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(omniglot_drawings, "_reachable", lambda: True)
    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", download)
    with pytest.raises(InputError, match="--task=omniglot .* downloaded .*--omniglot_archives=DIR") as error:
        omniglot.Omniglot(**options(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("network", ["refuses", "is silent"])
def test_without_a_network_it_says_so_within_ten_seconds(network, tmp_path, monkeypatch):
    """tensorflow-datasets is not even imported; as in a real network, a request may hang or fail."""

    def urlopen(request, timeout):
        if network == "is silent":
            time.sleep(60)
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(omniglot_drawings, "PATIENCE", 0.2)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    began = time.monotonic()
    with pytest.raises(InputError, match="^--task=omniglot .*no answer from github.com.*--omniglot_archives=DIR"):
        omniglot.Omniglot(**options(tmp_path))
    assert time.monotonic() - began < 5


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    where = {"omniglot_archives": str(REAL), "meta_test_alphabets": ("Korean", "Tagalog")}
    chosen = options(tmp_path_factory.mktemp("real"), **where, shots=5, query_size=15)
    return Choice(TASKS["omniglot"], TASKS.options("omniglot")(**chosen))(), chosen


@pytest.mark.slow
@needs_archives
def test_official_archives_have_242_classes(real):
    task, chosen = real
    assert [task.num_classes(split) for split in ("train", "validation", "test")] == [167, 18, 40 + 17]
    (cache,) = (Path(chosen["data_dir"]) / "flp_tf").iterdir()
    with np.load(cache) as arrays:
        names, counts = np.unique(arrays["alphabets"], return_counts=True)
        assert dict(zip(names.tolist(), counts.tolist())) == REAL_ALPHABETS
        assert arrays["images"].shape == (242, 20, 105, 105, 1)


@needs_archives
def test_official_drawings_are_those_of_the_archive(real):
    Image = pytest.importorskip("PIL.Image")
    task, _ = real
    with zipfile.ZipFile(REAL / "images_background_small2.zip") as archive:
        names = [name for name in archive.namelist() if "/Tagalog/character17/" in name and name.endswith(".png")]
        drawings = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("L")) for name in sorted(names)]
    np.testing.assert_array_equal(task.images["test"][-1, ..., 0], 255 - np.stack(drawings))


@needs_archives
def test_official_archives_give_whole_episodes(real):
    task, _ = real
    episode = task.sample(0, tf.constant(0), 2, "test")
    assert episode.support_x.shape == (10, 2, 1, 105, 105, 1)
    assert 0.01 < np.mean(episode.query_x) < 0.3
