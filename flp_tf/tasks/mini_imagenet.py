"""mini-ImageNet: 100 classes of photographs (paper, section 5)."""

import contextlib
import dataclasses
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging

from flp_tf.errors import InputError
from flp_tf.files import check_writable, local, printable
from flp_tf.registry import option
from flp_tf.tasks.base import SPLITS
from flp_tf.tasks.classification import Dataset, DatasetOptions, check_episode
from flp_tf.tasks.images.mini_imagenet_folder import (
    CSV_FILES,
    EXPECTED,
    Listing,
    check_images,
    fingerprint,
    read_listings,
    unnamed,
)

if typing.TYPE_CHECKING:
    from flp_tf.tasks.images.mini_imagenet_builder import MiniImagenetRavi

# Images read from disk at a time.
BATCH = 256


@dataclasses.dataclass(frozen=True)
class MiniImagenetOptions(DatasetOptions):
    """Options of `MiniImagenet`."""

    mini_imagenet_dir: str = option("", "Folder with {train,val,test}.csv and images/.", incidental=True, path=True)


class MiniImagenet(Dataset):
    """Few-shot classification of photographs in the split of Ravi & Larochelle (2017).

    64 classes are for meta-training, 16 for validation and 20 for meta-test, of 600
    images each. The images cannot be downloaded freely: `mini_imagenet_dir` names a
    folder with them, from which a tensorflow-datasets builder makes its files once.

    Args:
        **options: the fields of `MiniImagenetOptions`.

    Raises:
        InputError: if an option is out of range, or the folder not as expected.
    """

    Options = MiniImagenetOptions
    channels = 3

    @staticmethod
    def load_images(options: MiniImagenetOptions) -> dict[str, np.ndarray]:
        """Returns the images by split, uint8 `[classes, drawings, size, size, 3]`."""
        if not options.mini_imagenet_dir:
            raise InputError(f"--mini_imagenet_dir is needed by --task=mini_imagenet; expected: {EXPECTED}")
        folder = local(options.mini_imagenet_dir, "mini_imagenet_dir")
        data_dir = local(options.data_dir, "data_dir")
        listings = read_listings(folder)
        for split, listing in listings.items():
            check_listing(folder, split, listing, options.ways, options.shots, options.query_size)
        images = _prepare(folder, listings, options.image_size, data_dir)
        counts = ", ".join(f"{len(listings[split])} {split}" for split in SPLITS)
        print(f"mini-ImageNet: {counts} classes in {folder}", file=sys.stderr)
        if skipped := unnamed(folder, listings):
            text = f"skipped {len(skipped)} files in {folder / 'images'} that no csv file names, such as "
            print(f"mini-ImageNet: {text}{printable(skipped[0])}", file=sys.stderr)
        return images

    @staticmethod
    def is_cached(options: MiniImagenetOptions) -> bool:
        """Returns whether tensorflow-datasets has its files in `data_dir`."""
        folder = local(options.mini_imagenet_dir, "mini_imagenet_dir")
        data_dir = local(options.data_dir, "data_dir")
        return _builder(folder, read_listings(folder), options.image_size, data_dir).is_prepared()


def check_listing(folder: Path, split: str, listing: Listing, ways: int, shots: int, query_size: int) -> None:
    """Raises InputError unless every class of a split has enough images for an episode."""
    smallest = min(listing, key=lambda label: len(listing[label]), default=None)
    count = len(listing.get(smallest, ()))
    if smallest is not None and count < shots + query_size:
        raise InputError(
            f"--mini_imagenet_dir={folder}: class {smallest} has {count} images in {CSV_FILES[split]}; expected at "
            f"least {shots + query_size} of each class, for --shots={shots} and --query_size={query_size}"
        )
    check_episode(split, len(listing), count, ways, shots, query_size)


def _prepare(folder: Path, listings: dict[str, Listing], size: int, data_dir: Path) -> dict[str, np.ndarray]:
    """Returns the images by split, uint8 `[classes, drawings, size, size, 3]`."""
    # Imported here: it takes a second, and other tasks do not need it.
    import tensorflow_datasets as tfds

    builder = _builder(folder, listings, size, data_dir)
    if not builder.is_prepared():
        check_images(folder, listings)
        check_writable(data_dir, "data_dir")
    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder))
    except OSError as error:
        raise InputError(f"--data_dir={data_dir} cannot be written: {error.strerror or error}") from None
    return {split: _load(builder, split, listings[split], size) for split in SPLITS}


def _builder(folder: Path, listings: dict[str, Listing], size: int, data_dir: Path) -> "MiniImagenetRavi":
    """Returns what makes and reads the files of tensorflow-datasets."""
    from flp_tf.tasks.images.mini_imagenet_builder import MiniImagenetConfig, MiniImagenetRavi

    with _quiet():
        config = MiniImagenetConfig(size, fingerprint(folder, listings), listings)
        return MiniImagenetRavi(config=config, data_dir=data_dir)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leaves out that a configuration and its folder are new, of which tensorflow-datasets warns."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _load(builder, split: str, listing: Listing, size: int) -> np.ndarray:
    """Reads a split into one array, one row per class; classes of unequal size are cut to the smallest."""
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
