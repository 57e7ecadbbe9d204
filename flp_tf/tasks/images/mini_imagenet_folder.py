"""The folder of mini-ImageNet: csv files of the split, and the images that they name."""

import csv
import hashlib
from pathlib import Path

from flp_tf.errors import InputError

CSV_FILES = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}
COLUMNS = ["filename", "label"]
EXPECTED = "a folder with train.csv, val.csv, test.csv (lines filename,label) and images/ with the JPEGs that they name"

# Names of the images by class.
Listing = dict[str, list[str]]


def read_listings(folder: Path) -> dict[str, Listing]:
    """Reads the csv files of a folder and makes sure that every image is there.

    Returns:
        By split, the names of the images by class.

    Raises:
        InputError: naming what was expected where.
    """
    flag = f"--mini_imagenet_dir={folder}"
    if not folder.is_dir():
        raise InputError(f"{flag} is not a folder; expected: {EXPECTED}")
    for name in (*CSV_FILES.values(), "images"):
        if not (folder / name).exists():
            raise InputError(f"{flag} has no {name}; expected: {EXPECTED}")
    listings = {split: _read_csv(folder / name) for split, name in CSV_FILES.items()}
    present = {path.name for path in (folder / "images").iterdir()}
    named = [name for listing in listings.values() for names in listing.values() for name in names]
    missing = [name for name in named if name not in present]
    if missing:
        raise InputError(
            f"{flag} lacks {len(missing)} of the {len(named)} images that its csv files name; "
            f"expected, for one, {folder / 'images' / missing[0]}"
        )
    labels = [label for listing in listings.values() for label in listing]
    shared = sorted({label for label in labels if labels.count(label) > 1})
    if shared:
        raise InputError(f"{flag} has class {shared[0]} in two of {', '.join(CSV_FILES.values())}; expected in one")
    return listings


def fingerprint(folder: Path, listings: dict[str, Listing]) -> str:
    """Returns a text that differs between folders of other contents, without reading the images."""
    sizes = {path.name: path.stat().st_size for path in (folder / "images").iterdir()}
    lines = [
        f"{split} {label} {name} {sizes[name]}"
        for split, listing in listings.items()
        for label, names in listing.items()
        for name in names
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]


def _read_csv(path: Path) -> Listing:
    listing: Listing = {}
    with path.open(newline="") as file:
        rows = csv.reader(file)
        if next(rows, None) != COLUMNS:
            raise InputError(f"--mini_imagenet_dir={path.parent}: {path} does not begin with {','.join(COLUMNS)}")
        for row in rows:
            if len(row) != len(COLUMNS):
                raise InputError(
                    f"--mini_imagenet_dir={path.parent}: line {rows.line_num} of {path} does not read; "
                    f"expected {','.join(COLUMNS)}"
                )
            listing.setdefault(row[1], []).append(row[0])
    return listing
