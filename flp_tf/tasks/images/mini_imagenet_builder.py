"""A tensorflow-datasets builder of mini-ImageNet, from images on disk."""

from typing import ClassVar

import tensorflow as tf
import tensorflow_datasets as tfds

from flp_tf.errors import InputError
from flp_tf.tasks.images.cache import resized
from flp_tf.tasks.images.mini_imagenet_folder import EXPECTED, Listing


class MiniImagenetConfig(tfds.core.BuilderConfig):
    """Which images, in which size.

    Args:
        image_size: height and width that images are scaled to.
        fingerprint: of the folder; another folder is another dataset.
        listings: by split, the names of the images by class.
    """

    def __init__(self, image_size: int, fingerprint: str, listings: dict[str, Listing]):
        super().__init__(name=f"{image_size}px_{fingerprint}", description=f"{image_size}x{image_size} pixels")
        self.image_size = image_size
        self.listings = listings


class MiniImagenetRavi(tfds.core.GeneratorBasedBuilder):
    """The 100 classes of mini-ImageNet, split by class into 64, 16 and 20.

    Images that are not square are scaled to a square one, as the benchmark's are; `stretched` counts them.
    """

    stretched = 0
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The split of Ravi & Larochelle (2017)."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The images are ImageNet's and cannot be downloaded freely. Get them from image-net.org and give, "
        f"as the manual directory, {EXPECTED}."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.builder_config.image_size
        labels = sorted(label for listing in self.builder_config.listings.values() for label in listing)
        return tfds.core.DatasetInfo(
            builder=self,
            description="Photographs of 100 classes for few-shot learning.",
            homepage="https://openreview.net/forum?id=rJY0-Kcll",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=labels),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        listings = self.builder_config.listings
        return {split: self._generate_examples(dl_manager.manual_dir, listing) for split, listing in listings.items()}

    def _generate_examples(self, folder, listing: Listing):
        for label, names in listing.items():
            for name in names:
                yield name, {"image": self._read(folder / "images" / name), "label": label}

    def _read(self, path):
        try:
            image = tf.io.decode_jpeg(path.read_bytes(), channels=3)
        except tf.errors.InvalidArgumentError:
            raise InputError(f"--mini_imagenet_dir: {path} is damaged, or not a JPEG image") from None
        except OSError as error:
            raise InputError(f"--mini_imagenet_dir: {path} cannot be read: {error.strerror}") from None
        self.stretched += image.shape[0] != image.shape[1]
        return resized(image[None], self.builder_config.image_size)[0]
