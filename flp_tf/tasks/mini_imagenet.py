"""mini-ImageNet: 100 classes of photographs (paper, section 5)."""

import csv
import hashlib
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np

from flp_tf.tasks.base import SPLITS
from flp_tf.tasks.classification import Classification, check_episode

CSV_FILES = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}
COLUMNS = ["filename", "label"]
EXPECTED = "a folder with train.csv, val.csv, test.csv (lines filename,label) and images/ with the JPEGs that they name"
# Images read from disk at a time.
BATCH = 256

# Names of the images by class.
Listing = dict[str, list[str]]


class MiniImagenet(Classification):
    """Few-shot classification of photographs in the split of Ravi & Larochelle (2017).

    64 classes are for meta-training, 16 for validation and 20 for meta-test, of 600
    images each. The images cannot be downloaded freely: `--mini_imagenet_dir` names a
    folder with them, from which a tensorflow-datasets builder makes its files once.
    """

    defaults: ClassVar = {**Classification.defaults, "network": "mini_imagenet_paper"}

    @classmethod
    def load_images(cls, config) -> dict[str, np.ndarray]:
        folder = Path(config.mini_imagenet_dir).expanduser()
        if not config.mini_imagenet_dir:
            raise ValueError(f"--mini_imagenet_dir is needed by --task=mini_imagenet; expected: {EXPECTED}")
        listings = read_listings(folder)
        for split, listing in listings.items():
            check_listing(folder, split, listing, config.ways, config.shots, config.query_size)
        counts = ", ".join(f"{len(listings[split])} {split}" for split in SPLITS)
        print(f"mini-ImageNet: {counts} classes in {folder}", file=sys.stderr)
        return _prepare(folder, listings, config.image_size, Path(config.data_dir).expanduser())


def read_listings(folder: Path) -> dict[str, Listing]:
    """Reads the csv files of a folder and makes sure that every image is there.

    Returns:
        By split, the names of the images by class.

    Raises:
        ValueError: naming what was expected where.
    """
    flag = f"--mini_imagenet_dir={folder}"
    if not folder.is_dir():
        raise ValueError(f"{flag} is not a folder; expected: {EXPECTED}")
    for name in (*CSV_FILES.values(), "images"):
        if not (folder / name).exists():
            raise ValueError(f"{flag} has no {name}; expected: {EXPECTED}")
    listings = {split: _read_csv(folder / name) for split, name in CSV_FILES.items()}
    present = {path.name for path in (folder / "images").iterdir()}
    named = [name for listing in listings.values() for names in listing.values() for name in names]
    missing = [name for name in named if name not in present]
    if missing:
        raise ValueError(
            f"{flag} lacks {len(missing)} of the {len(named)} images that its csv files name; "
            f"expected, for one, {folder / 'images' / missing[0]}"
        )
    labels = [label for listing in listings.values() for label in listing]
    shared = sorted({label for label in labels if labels.count(label) > 1})
    if shared:
        raise ValueError(f"{flag} has class {shared[0]} in two of {', '.join(CSV_FILES.values())}; expected in one")
    return listings


def check_listing(folder: Path, split: str, listing: Listing, ways: int, shots: int, query_size: int) -> None:
    """Raises ValueError unless every class of a split has images enough for an episode."""
    smallest = min(listing, key=lambda label: len(listing[label]), default=None)
    count = len(listing.get(smallest, ()))
    if smallest is not None and count < shots + query_size:
        raise ValueError(
            f"--mini_imagenet_dir={folder}: class {smallest} has {count} images in {CSV_FILES[split]}; expected at "
            f"least {shots + query_size} of each class, for --shots={shots} and --query_size={query_size}"
        )
    check_episode(split, len(listing), count, ways, shots, query_size)


def _read_csv(path: Path) -> Listing:
    listing: Listing = {}
    with path.open(newline="") as file:
        rows = csv.reader(file)
        if next(rows, None) != COLUMNS:
            raise ValueError(f"--mini_imagenet_dir={path.parent}: {path} does not begin with {','.join(COLUMNS)}")
        for row in rows:
            if len(row) != len(COLUMNS):
                raise ValueError(
                    f"--mini_imagenet_dir={path.parent}: line {rows.line_num} of {path} does not read; "
                    f"expected {','.join(COLUMNS)}"
                )
            listing.setdefault(row[1], []).append(row[0])
    return listing


def _prepare(folder: Path, listings: dict[str, Listing], size: int, data_dir: Path) -> dict[str, np.ndarray]:
    """Returns the images by split, uint8 `[classes, drawings, size, size, 3]`."""
    # Imported here: it takes a second, and other tasks never need it.
    import tensorflow_datasets as tfds

    from flp_tf.tasks.mini_imagenet_builder import MiniImagenetConfig, MiniImagenetRavi

    config = MiniImagenetConfig(size, _fingerprint(folder, listings), listings)
    builder = MiniImagenetRavi(config=config, data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder))
    return {split: _load(builder, split, listings[split], size) for split in SPLITS}


def _fingerprint(folder: Path, listings: dict[str, Listing]) -> str:
    """Returns what tells a folder's contents from others, without reading the images."""
    sizes = {path.name: path.stat().st_size for path in (folder / "images").iterdir()}
    lines = [
        f"{split} {label} {name} {sizes[name]}"
        for split, listing in listings.items()
        for label, names in listing.items()
        for name in names
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]


def _load(builder, split: str, listing: Listing, size: int) -> np.ndarray:
    """Reads a split into one array, a class a row; classes of unequal size are cut to the smallest."""
    drawings = min(map(len, listing.values()))
    rows = {builder.info.features["label"].str2int(label): row for row, label in enumerate(sorted(listing))}
    filled = np.zeros(len(rows), int)
    images = np.empty((len(rows), drawings, size, size, 3), np.uint8)
    for batch in builder.as_dataset(split=split, batch_size=BATCH).as_numpy_iterator():
        for image, label in zip(batch["image"], batch["label"]):
            row = rows[label]
            if filled[row] < drawings:
                images[row, filled[row]] = image
                filled[row] += 1
    return images
