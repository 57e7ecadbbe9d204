"""Few-shot classification: an episode is some classes of images, seen one by one."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import tensorflow as tf

from flp_tf import losses
from flp_tf.tasks.base import SPLITS, Episode, Task
from flp_tf.tasks.distortion import distorted

# Named, because the default algorithm depends on the device and on XLA, and so would
# the episodes.
RANDOM_ALGORITHM = "philox"
QUARTER_TURNS = 4
MIRRORED = 2


class Classification(Task):
    """N-way k-shot classification, learned one image at a time (paper, section 5).

    An episode draws `ways` classes of a split, and of each `shots` support images and
    `query_size` others as the query. A lifetime shows each support image once, in a
    batch of one: `ways * shots` inner steps, class after class if continual, shuffled
    otherwise. Which output stands for which class is drawn as well, so that in a
    continual lifetime an output does not tell when its class was learned; the query is
    laid out in the order in which a continual lifetime meets the classes.

    The images stay in memory as bytes, once, and are cast to float32 in [0, 1] when an
    episode takes them. A dataset is a subclass that defines `load_images`.

    Args:
        images: by split, uint8 `[classes, drawings, size, size, channels]`.
        ways: classes of an episode.
        shots: support images of each class.
        query_size: query images of each class.
        continual: class after class rather than shuffled.
        rotations: whether meta-training classes turned by 90, 180 and 270 degrees are
            classes too. They belong to the split of the class they come from.
        mirrors: whether mirror images of meta-training classes, turned ones included, are
            classes too.
        distortion: strength of random affine distortions of meta-training images, see
            `distorted`; 0 for none.

    Attributes:
        images: by split, as tensors.

    Raises:
        ValueError: if a split has too few classes, or a class too few images.
    """

    concept: ClassVar = "class"
    unit: ClassVar = "% error"
    loss: ClassVar = staticmethod(losses.cross_entropy)
    error: ClassVar = staticmethod(losses.error_percent)
    defaults: ClassVar = {
        "episodes": 40_000,
        "query_size": 15,
        "image_size": 84,
        "feedback_signal": "target",
        "clamp_output": True,
        "plasticity_scale": 0.1,
        "hidden_plasticity_factor": 100.0,
        "inner_rate": 0.01,
    }

    def __init__(
        self,
        images: Mapping[str, np.ndarray],
        ways: int = 5,
        shots: int = 5,
        query_size: int = 15,
        continual: bool = False,
        rotations: bool = False,
        mirrors: bool = False,
        distortion: float = 0.0,
    ):
        for split in SPLITS:
            check_episode(split, *images[split].shape[:2], ways, shots, query_size)
        # Functions capture eager tensors of this size by reference: no graph holds a copy.
        self.images = {split: tf.constant(images[split], tf.uint8) for split in SPLITS}
        self.input_shape = tuple(images["train"].shape[2:])
        self.num_outputs = self.num_concepts = ways
        self.shots = shots
        self.steps = ways * shots
        self.batch_size = 1
        self.query_size = query_size * ways
        self.continual = continual
        self.rotations = rotations
        self.mirrors = mirrors
        self.distortion = distortion

    @classmethod
    def load_images(cls, config) -> dict[str, np.ndarray]:
        """Returns the images of a `Config`, as the constructor takes them.

        Raises:
            ValueError: naming the flag that says where they are, and what is expected there.
        """
        raise TypeError(f"{cls.__name__} does not define load_images(config)")

    @classmethod
    def from_config(cls, config) -> "Classification":
        images = cls.load_images(config)
        episode = (config.ways, config.shots, config.query_size, config.continual)
        return cls(images, *episode, config.rotations, config.mirrors, config.distortion)

    def num_classes(self, split: str) -> int:
        """Returns how many classes a split has, rotated and mirrored ones included."""
        return self.images[split].shape[0] * self._turns(split) * self._mirrors(split)

    def sample_lifetime(self, seed: tf.Tensor, split: str) -> Episode:
        seeds = tf.unstack(tf.random.split(seed, 5, alg=RANDOM_ALGORITHM))
        images, ways = self.images[split], self.num_concepts
        turns, mirrors = self._turns(split), self._mirrors(split)
        of_class = self.shots + self.query_size // ways
        classes = _distinct(seeds[0], [self.num_classes(split)], ways)
        drawings = _distinct(seeds[1], [ways, images.shape[1]], of_class)
        places = tf.stack([tf.tile(classes[:, None] // (turns * mirrors), [1, of_class]), drawings], axis=-1)
        x = tf.image.convert_image_dtype(tf.gather_nd(images, places), tf.float32)
        if turns > 1:
            x = quarter_turned(x, classes % turns)
        if mirrors > 1:
            x = mirrored(x, classes // turns % mirrors)
        if self.distortion and split == "train":
            x = distorted(x, seeds[4], self.distortion)
        labels = tf.one_hot(_distinct(seeds[2], [ways], ways), ways)
        y = tf.tile(labels[:, None], [1, of_class, 1])
        order = tf.range(self.steps) if self.continual else _distinct(seeds[3], [self.steps], self.steps)
        ends = (self.input_shape, (ways,))
        support = [tf.reshape(part[:, : self.shots], [self.steps, 1, *end]) for part, end in zip((x, y), ends)]
        query = [tf.reshape(part[:, self.shots :], [self.query_size, *end]) for part, end in zip((x, y), ends)]
        return Episode(*(tf.gather(part, order) for part in support), *query)

    def picture(self, learner, seed: int):
        from flp_tf.tasks import pictures

        return pictures.classes(self, learner, seed)

    def _turns(self, split: str) -> int:
        return QUARTER_TURNS if self.rotations and split == "train" else 1

    def _mirrors(self, split: str) -> int:
        return MIRRORED if self.mirrors and split == "train" else 1


def check_episode(split: str, classes: int, drawings: int, ways: int, shots: int, query_size: int) -> None:
    """Raises ValueError unless a split of so many classes has episodes of this size."""
    if ways > classes:
        raise ValueError(f"--ways={ways} is more than the {classes} {split} classes; legal values are 2 to {classes}")
    if shots + query_size > drawings:
        raise ValueError(
            f"--shots={shots} and --query_size={query_size} take {shots + query_size} images of a class, but a {split} "
            f"class has {drawings}; legal values add up to at most {drawings}"
        )


def quarter_turned(images: tf.Tensor, turns: tf.Tensor) -> tf.Tensor:
    """Returns images turned counter-clockwise by `90 * turns` degrees.

    Args:
        images: square ones `[classes, drawings, size, size, channels]`.
        turns: int32 `[classes]`, 0 to 3.
    """
    turns = tf.reshape(turns, [-1, 1, 1, 1, 1])
    images = tf.where(turns >= 2, tf.reverse(images, [2, 3]), images)
    return tf.where(turns % 2 == 1, tf.reverse(tf.transpose(images, [0, 1, 3, 2, 4]), [2]), images)


def mirrored(images: tf.Tensor, mirrors: tf.Tensor) -> tf.Tensor:
    """Returns images with left and right exchanged where `mirrors` is 1.

    Args:
        images: `[classes, drawings, height, width, channels]`.
        mirrors: int32 `[classes]`, 0 or 1.
    """
    return tf.where(tf.reshape(mirrors, [-1, 1, 1, 1, 1]) == 1, tf.reverse(images, [3]), images)


def _distinct(seed: tf.Tensor, shape: Sequence[int], count: int) -> tf.Tensor:
    """Draws `count` distinct indices of the last axis of `shape`, in random order.

    Unlike `stateless_shuffle` this compiles with XLA, and gives the same: of a uniform
    draw, XLA rounds floats in another way, but not integers.
    """
    keys = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.int32, alg=RANDOM_ALGORITHM)
    return tf.math.top_k(keys, count).indices
