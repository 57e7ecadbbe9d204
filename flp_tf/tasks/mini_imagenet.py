"""mini-ImageNet: 100 classes of photographs (paper, section 5)."""

import contextlib
import dataclasses
import io
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging
from google.protobuf.json_format import ParseError

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
    equal_classes,
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
    All are scaled to `image_size` x `image_size`; how many were not square is said then.

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
        used = equal_classes(listings)
        images = _prepare(folder, used, options.image_size, data_dir)
        counts = ", ".join(
            "{} {split} classes of {} images".format(*images[split].shape, split=split) for split in SPLITS
        )
        print(f"mini-ImageNet: {counts} in {folder}", file=sys.stderr)
        for split, listing in listings.items():
            if left_out := _count(listing) - _count(used[split]):
                text = f"{CSV_FILES[split]} names {left_out} images that are left out, as some classes have fewer"
                print(f"mini-ImageNet: {text}", file=sys.stderr)
        if skipped := unnamed(folder, listings):
            text = f"skipped {len(skipped)} files in {folder / 'images'} that no csv file names, such as "
            print(f"mini-ImageNet: {text}{printable(skipped[0])}", file=sys.stderr)
        return images

    @staticmethod
    def is_cached(options: MiniImagenetOptions) -> bool:
        """Returns whether tensorflow-datasets has its files in `data_dir`."""
        folder = local(options.mini_imagenet_dir, "mini_imagenet_dir")
        data_dir = local(options.data_dir, "data_dir")
        with _quiet():
            return _builder(folder, equal_classes(read_listings(folder)), options.image_size, data_dir).is_prepared()


def _count(listing: Listing) -> int:
    return sum(map(len, listing.values()))


def check_listing(folder: Path, split: str, listing: Listing, ways: int, shots: int, query_size: int) -> None:
    """Raises InputError unless every class of a split has enough images for an episode."""
    smallest = min(listing, key=lambda label: len(listing[label]))
    count = len(listing[smallest])
    if count < shots + query_size:
        raise InputError(
            f"--mini_imagenet_dir={folder}: class {smallest} has {count} images in {CSV_FILES[split]}; expected at "
            f"least {shots + query_size} of each class, for --shots={shots} and --query_size={query_size}"
        )
    check_episode(split, len(listing), count, ways, shots, query_size)


def _prepare(folder: Path, listings: dict[str, Listing], size: int, data_dir: Path) -> dict[str, np.ndarray]:
    """Returns the images by split, uint8 `[classes, drawings, size, size, 3]`."""
    # Imported here: it takes a second, and other tasks do not need it.
    import tensorflow_datasets as tfds

    with _quiet():
        builder = _builder(folder, listings, size, data_dir)
        if not builder.is_prepared():
            check_images(folder, listings)
            check_writable(data_dir, "data_dir")
            print(f"mini-ImageNet: preparing {sum(map(_count, listings.values()))} images", file=sys.stderr)
        try:
            # What it writes to the standard output is of a download, and there is none.
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder))
        except OSError as error:
            raise InputError(f"--data_dir={data_dir} cannot be written: {error.strerror or error}") from None
        if builder.stretched:
            text = f"images that are not square and are scaled to {size}x{size}: {builder.stretched}"
            print(f"mini-ImageNet: {text}", file=sys.stderr)
        try:
            return {split: _load(builder, split, listings[split], size) for split in SPLITS}
        except tf.errors.OpError as error:
            raise _damaged(data_dir, error) from None


def _builder(folder: Path, listings: dict[str, Listing], size: int, data_dir: Path) -> "MiniImagenetRavi":
    """Returns what makes and reads the files of tensorflow-datasets."""
    # Imported here, as it imports tensorflow-datasets.
    from flp_tf.tasks.images.mini_imagenet_builder import MiniImagenetConfig, MiniImagenetRavi

    config = MiniImagenetConfig(size, fingerprint(folder, listings), listings)
    try:
        return MiniImagenetRavi(config=config, data_dir=data_dir)
    except ParseError as error:
        raise _damaged(data_dir, error) from None


def _damaged(data_dir: Path, error: Exception) -> InputError:
    return InputError(
        f"--data_dir={data_dir}: the images prepared there are damaged ({type(error).__name__}); "
        f"delete {data_dir / 'mini_imagenet_ravi'}, and they are prepared again"
    )


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
    """Reads a split into one array, one row per class; all classes have as many images."""
    drawings = len(next(iter(listing.values())))
    rows = {builder.info.features["label"].str2int(label): row for row, label in enumerate(sorted(listing))}
    filled = np.zeros(len(rows), int)
    images = np.empty((len(rows), drawings, size, size, 3), np.uint8)
    for batch in builder.as_dataset(split=split, batch_size=BATCH).as_numpy_iterator():
        for image, label in zip(batch["image"], batch["label"]):
            row = rows[label]
            images[row, filled[row]] = image
            filled[row] += 1
    return images
