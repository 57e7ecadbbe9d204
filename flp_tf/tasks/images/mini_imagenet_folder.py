"""The folder of mini-ImageNet: csv files of the split, and the images that they name."""

import csv
import hashlib
import io
from collections import Counter
from pathlib import Path

from flp_tf.errors import InputError
from flp_tf.files import read_bytes

CSV_FILES = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}
COLUMNS = ["filename", "label"]
EXPECTED = "a folder with train.csv, val.csv, test.csv (lines filename,label) and images/ with the JPEGs that they name"
# How a JPEG file starts and ends, and in how many bytes of its end to look, because some have a trailer.
JPEG, END = (b"\xff\xd8", b"\xff\xd9"), 4096

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
    if not (folder / "images").is_dir():
        raise InputError(f"{flag}: {folder / 'images'} is not a folder; expected: {EXPECTED}")
    present = {path.name for path in (folder / "images").iterdir() if path.is_file()}
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
    if len(named) > len(set(named)):
        twice = next(name for name, count in Counter(named).items() if count > 1)
        raise InputError(f"{flag} has image {twice} twice in {', '.join(CSV_FILES.values())}; expected once")
    return listings


def unnamed(folder: Path, listings: dict[str, Listing]) -> list[str]:
    """Returns the files in `images/` that no csv file names, such as those of the system."""
    named = {name for listing in listings.values() for names in listing.values() for name in names}
    return sorted(path.name for path in (folder / "images").iterdir() if path.name not in named)


def equal_classes(listings: dict[str, Listing]) -> dict[str, Listing]:
    """Returns as many images of each class of a split as its smallest class has, the first of the csv file."""
    smallest = {split: min(map(len, listing.values())) for split, listing in listings.items()}
    return {
        split: {label: names[: smallest[split]] for label, names in listing.items()}
        for split, listing in listings.items()
    }


def fingerprint(folder: Path, listings: dict[str, Listing]) -> str:
    """Returns a text that changes with the listings, and with the size or time of any image; no image is read."""
    lines = []
    for split, listing in listings.items():
        for label, names in listing.items():
            for name in names:
                stat = (folder / "images" / name).stat()
                lines.append(f"{split} {label} {name} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]


def check_images(folder: Path, listings: dict[str, Listing]) -> None:
    """Looks at both ends of every image, before a dataset is made of them all.

    Raises:
        InputError: naming the first file that is unreadable, cut off, or no image, and how many are.
    """
    damaged = []
    for path in (folder / "images" / name for of in listings.values() for names in of.values() for name in names):
        try:
            with path.open("rb") as file:
                start = file.read(len(JPEG[0]))
                file.seek(max(path.stat().st_size - END, 0))
                end = file.read()
        except OSError as error:
            raise InputError(f"--mini_imagenet_dir: {path} cannot be read: {error.strerror}") from None
        if start != JPEG[0] or JPEG[1] not in end:
            damaged.append(path)
    if damaged:
        count = len(damaged) - 1
        others = f"; so {'is 1 other' if count == 1 else f'are {count} others'}" if count else ""
        raise InputError(f"--mini_imagenet_dir: {damaged[0]} is damaged, or not a JPEG image{others}")


def _read_csv(path: Path) -> Listing:
    flag, listing = f"--mini_imagenet_dir={path.parent}", {}
    try:
        # Some editors begin a file with a byte order mark; it is no part of the first name.
        text = read_bytes(path).decode("utf-8-sig")
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        if next(rows, None) != COLUMNS:
            raise InputError(f"{flag}: {path} does not begin with {','.join(COLUMNS)}")
        for row in rows:
            if len(row) != len(COLUMNS) or not all(row) or Path(row[0]).name != row[0]:
                raise InputError(f"{flag}: line {rows.line_num} of {path} does not read; expected {','.join(COLUMNS)}")
            listing.setdefault(row[1], []).append(row[0])
    except (OSError, UnicodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no csv file in UTF-8"
        raise InputError(f"{flag}: {path} cannot be read: {reason}; expected lines {','.join(COLUMNS)}") from None
    if not listing:
        raise InputError(f"{flag}: {path} names no images; expected lines {','.join(COLUMNS)}")
    return listing
