"""Few-shot classification: an episode is some classes of images, seen one by one."""

import abc
import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import matplotlib.figure
import numpy as np
import tensorflow as tf

from flp_tf import losses
from flp_tf.errors import InputError
from flp_tf.registry import check, option
from flp_tf.tasks import pictures
from flp_tf.tasks.base import SPLITS, Episode, Signature, Task
from flp_tf.tasks.images.arrays import checked
from flp_tf.tasks.images.distortion import distorted
from flp_tf.tasks.images.orientation import MIRRORED, QUARTER_TURNS, mirrored, quarter_turned

# Named, because the default algorithm depends on the device and on XLA, and so would
# the episodes.
RANDOM_ALGORITHM = "philox"


@dataclasses.dataclass(frozen=True)
class ClassificationOptions:
    """Options of `Classification`, and of subclasses with images of their own."""

    ways: int = option(5, "Classes of a lifetime.", least=2)
    shots: int = option(5, "Support examples of each class.", least=1)
    query_size: int = option(15, "Query examples of each class.", least=1)
    continual: bool = option(False, "Class after class instead of i.i.d. order.")
    rotations: bool = option(False, "Add meta-training classes rotated by 90, 180 and 270 degrees.")
    mirrors: bool = option(False, "Add mirror images of meta-training classes as classes.")
    distortion: float = option(
        0.0, "Turn, scale and shift meta-training images at random, by up to this.", least=0, most=1
    )
    flips: bool = option(False, "Mirror each meta-training image at random; its class stays the same.")


class Classification(Task):
    """N-way k-shot classification, learned one image at a time (paper, section 5).

    An episode draws `ways` classes of a split, and of each `shots` support images and
    `query_size` others as the query. A lifetime shows each support image once, in a
    batch of one: `ways * shots` inner steps, class after class if continual, shuffled
    otherwise. Which output stands for which class is drawn as well, so that in a
    continual lifetime an output does not tell when its class was learned. The query has
    the classes in the order in which a continual lifetime shows them.

    The images stay in memory once, as they are given, and are cast to float32 in [0, 1]
    when an episode takes them. A task with images of its own is a subclass that gives
    them to this constructor:

        @TASKS.register("digits")
        class Digits(Classification):
            def __init__(self, **options):
                super().__init__(load_digits(), **options)

    Args:
        images: for each of `SPLITS` `[classes, drawings, size, size, channels]`, uint8,
            booleans or floats in [0, 1]; NumPy arrays or tensors.
        ways: classes of an episode.
        shots: support images of each class.
        query_size: query images of each class.
        continual: class after class instead of shuffled.
        rotations: whether meta-training classes turned by 90, 180 and 270 degrees are
            further classes. They belong to the split of the class they come from.
        mirrors: whether mirror images of meta-training classes, turned ones included, are
            further classes.
        distortion: strength of the random affine distortions of meta-training images, see
            `distorted`; 0 for none.
        flips: whether each meta-training image is mirrored with probability 1/2, for classes
            whose mirror images are their own, such as photographs.

    Attributes:
        images: by split, as tensors.

    Raises:
        InputError: if an argument is out of range, the images have another type, range or
            shape, a split has too few classes, or a class too few images.
    """

    Options = ClassificationOptions
    concept: ClassVar = "class"
    unit: ClassVar = "% error"
    loss: ClassVar = staticmethod(losses.cross_entropy)
    error: ClassVar = staticmethod(losses.error_percent)

    def __init__(
        self,
        images: Mapping[str, np.ndarray],
        ways: int = ClassificationOptions.ways,
        shots: int = ClassificationOptions.shots,
        query_size: int = ClassificationOptions.query_size,
        continual: bool = ClassificationOptions.continual,
        rotations: bool = ClassificationOptions.rotations,
        mirrors: bool = ClassificationOptions.mirrors,
        distortion: float = ClassificationOptions.distortion,
        flips: bool = ClassificationOptions.flips,
    ):
        check(ClassificationOptions(ways, shots, query_size, continual, rotations, mirrors, distortion, flips))
        # Functions capture eager tensors of this size by reference: no graph holds a copy.
        self.images = checked(images, SPLITS)
        for split in SPLITS:
            check_episode(split, *self.images[split].shape[:2], ways, shots, query_size)
        self.input_shape = tuple(self.images["train"].shape[2:])
        self.num_outputs = self.num_concepts = ways
        self.shots = shots
        self.steps = ways * shots
        self.batch_size = 1
        self.query_examples = query_size * ways
        self.continual = continual
        self.rotations = rotations
        self.mirrors = mirrors
        self.distortion = distortion
        self.flips = flips

    @functools.cached_property
    def fingerprint(self) -> str:
        """What tells the images of all splits from others."""
        digest = hashlib.sha256()
        for split in SPLITS:
            array = self.images[split].numpy()
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(array)
        return digest.hexdigest()[:16]

    def num_classes(self, split: str) -> int:
        """Returns how many classes a split has, rotated and mirrored ones included."""
        return self.images[split].shape[0] * self._turns(split) * self._mirrors(split)

    def sample_lifetime(self, seed: tf.Tensor, split: str) -> Episode:
        """Draws classes, images, outputs and order; see `Task.sample_lifetime`."""
        seeds = tf.unstack(tf.random.split(seed, 5, alg=RANDOM_ALGORITHM))
        images, ways = self.images[split], self.num_concepts
        turns, mirrors = self._turns(split), self._mirrors(split)
        of_class = self.shots + self.query_examples // ways
        classes = _distinct(seeds[0], [self.num_classes(split)], ways)
        drawings = _distinct(seeds[1], [ways, images.shape[1]], of_class)
        places = tf.stack([tf.tile(classes[:, None] // (turns * mirrors), [1, of_class]), drawings], axis=-1)
        x = tf.image.convert_image_dtype(tf.gather_nd(images, places), tf.float32)
        if turns > 1:
            x = quarter_turned(x, classes % turns)
        if mirrors > 1:
            x = mirrored(x, classes // turns % mirrors)
        if self.flips and split == "train":
            x = mirrored(x, _flips(seeds[4], x.shape[:2]))
        if self.distortion and split == "train":
            x = distorted(x, seeds[4], self.distortion)
        labels = tf.one_hot(_distinct(seeds[2], [ways], ways), ways)
        y = tf.tile(labels[:, None], [1, of_class, 1])
        order = tf.range(self.steps) if self.continual else _distinct(seeds[3], [self.steps], self.steps)
        ends = (self.input_shape, (ways,))
        support = [tf.reshape(part[:, : self.shots], [self.steps, 1, *end]) for part, end in zip((x, y), ends)]
        query = [tf.reshape(part[:, self.shots :], [self.query_examples, *end]) for part, end in zip((x, y), ends)]
        return Episode(*(tf.gather(part, order) for part in support), *query)

    def draw(self, episode: Episode, before: np.ndarray, after: np.ndarray) -> matplotlib.figure.Figure:
        """Draws all images of an episode with the answers before and after the lifetime."""
        return pictures.classes(self, episode, before, after)

    def _turns(self, split: str) -> int:
        return QUARTER_TURNS if self.rotations and split == "train" else 1

    def _mirrors(self, split: str) -> int:
        return MIRRORED if self.mirrors and split == "train" else 1


@dataclasses.dataclass(frozen=True)
class DatasetOptions(ClassificationOptions):
    """Options of tasks whose images are read from files, scaled and cached."""

    image_size: int = option(84, "Height and width that images are scaled to.", least=8, most=1024)
    data_dir: str = option(
        "~/tensorflow_datasets", "Where datasets and decoded images are cached.", incidental=True, path=True
    )


class Dataset(Classification):
    """Few-shot classification of a dataset that is read from files.

    Args:
        **options: the fields of `Options`.

    Attributes:
        channels: of the images, on the class; where it is None, they have to be read to be counted.

    Raises:
        InputError: if an option is out of range, or the files not as expected.
    """

    Options: ClassVar[type] = DatasetOptions
    channels: ClassVar[int | None] = None

    @classmethod
    def signature(cls, **options: Any) -> "Signature | Dataset":
        """Returns what a learner is made of, without reading the images; see `Task`."""
        if cls.channels is None:
            return cls(**options)
        chosen = cls.Options(**options)
        check(chosen)
        return Signature((chosen.image_size, chosen.image_size, cls.channels), chosen.ways, cls.loss)

    def __init__(self, **options: Any):
        chosen = self.Options(**options)
        check(chosen)
        names = [field.name for field in dataclasses.fields(ClassificationOptions)]
        super().__init__(self.load_images(chosen), **{name: getattr(chosen, name) for name in names})

    @staticmethod
    @abc.abstractmethod
    def load_images(options: Any) -> Mapping[str, np.ndarray]:
        """Returns the images by split, uint8 `[classes, drawings, height, width, channels]`.

        Args:
            options: an instance of `Options`.
        """

    @staticmethod
    def is_cached(options: Any) -> bool:
        """Returns whether `load_images` only reads `data_dir`, because these very images are there, decoded.

        Args:
            options: an instance of `Options`.

        Raises:
            InputError: if the files are not as expected.
        """
        del options
        return False


def check_episode(split: str, classes: int, drawings: int, ways: int, shots: int, query_size: int) -> None:
    """Raises InputError unless a split of so many classes has episodes of this size."""
    if ways > classes:
        raise InputError(f"--ways={ways} is more than the {classes} {split} classes; legal values are 2 to {classes}")
    if shots + query_size > drawings:
        raise InputError(
            f"--shots={shots} and --query_size={query_size} take {shots + query_size} images of a class, but a {split} "
            f"class has {drawings}; legal values add up to at most {drawings}"
        )


def _flips(seed: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Draws 0 or 1, each with probability 1/2, from another stream than the distortions of the seed."""
    bits = tf.random.fold_in(seed, 1, alg=RANDOM_ALGORITHM)
    return tf.random.stateless_uniform(shape, bits, minval=0, maxval=2, dtype=tf.int32, alg=RANDOM_ALGORITHM)


def _distinct(seed: tf.Tensor, shape: Sequence[int], count: int) -> tf.Tensor:
    """Draws `count` distinct indices of the last axis of `shape`, in random order.

    Unlike `stateless_shuffle` this compiles with XLA, and gives the same: of a uniform
    draw, XLA rounds floats in another way, but not integers.
    """
    keys = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.int32, alg=RANDOM_ALGORITHM)
    return tf.math.top_k(keys, count).indices
