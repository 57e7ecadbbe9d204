"""Online regression of several sines (paper, section 5.1)."""

import dataclasses
import math
from typing import ClassVar

import matplotlib.figure
import numpy as np
import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.registry import check, option
from flp_tf.tasks import pictures
from flp_tf.tasks.base import SPLITS, Episode, Task

AMPLITUDES = (0.1, 5.0)
INPUTS = (-5.0, 5.0)
# Phases in [0, pi] are cut into this many bands, given to the splits in turn: every
# split covers the paper's distribution evenly, and no sine belongs to two.
PHASE_BANDS = 1000 * len(SPLITS)


@dataclasses.dataclass(frozen=True)
class SineOptions:
    """Options of `Sine`."""

    num_sines: int = option(10, "Sines of a lifetime.", least=1)
    lifetime: int = option(400, "Inner steps of a lifetime, a multiple of the sines.", least=1)
    batch_size: int = option(32, "Examples of an inner step.", least=1)
    query_size: int = option(64, "Query examples of each sine.", least=1)
    continual: bool = option(False, "Sine after sine instead of i.i.d. order.")


class Sine(Task):
    """Ten sines learned in one lifetime, `y = A sin(x + phase)`.

    `A ~ U[0.1, 5]`, `phase ~ U[0, pi]`, `x ~ U[-5, 5]`. The input is the one-hot number
    of the sine and `x`. Each inner step is a batch of one sine. In a continual lifetime
    all steps of a sine come before those of the next, in an i.i.d. one the batches are
    shuffled.

    Args:
        num_sines: sines of a lifetime.
        lifetime: inner steps of a lifetime, over all sines.
        batch_size: examples of an inner step.
        query_size: query examples of each sine.
        continual: sine after sine instead of shuffled.

    Raises:
        InputError: if an argument is out of range, or the lifetime not divisible by the sines.
    """

    Options = SineOptions
    concept: ClassVar = "sine"

    def __init__(
        self,
        num_sines: int = SineOptions.num_sines,
        lifetime: int = SineOptions.lifetime,
        batch_size: int = SineOptions.batch_size,
        query_size: int = SineOptions.query_size,
        continual: bool = SineOptions.continual,
    ):
        check(SineOptions(num_sines, lifetime, batch_size, query_size, continual))
        _check_divisible(lifetime, num_sines)
        self.num_concepts = num_sines
        self.input_shape = (num_sines + 1,)
        self.num_outputs = 1
        self.steps = lifetime
        self.batch_size = batch_size
        self.query_examples = query_size * num_sines
        self.continual = continual

    def with_lifetime(self, steps: int) -> "Sine":
        """Returns the same sines with lifetimes of `steps` inner steps.

        Raises:
            InputError: if the steps are not divisible by the sines.
        """
        check(SineOptions(lifetime=steps))
        _check_divisible(steps, self.num_concepts)
        return self._of_length(steps)

    def draw(self, episode: Episode, before: np.ndarray, after: np.ndarray) -> matplotlib.figure.Figure:
        """Draws every sine with the predictions before and after the lifetime."""
        return pictures.sines(self, episode, before, after)

    def sample_lifetime(self, seed: tf.Tensor, split: str) -> Episode:
        """Draws sines, inputs and order; see `Task.sample_lifetime`."""
        # Each split has seeds of its own. With the phases alone apart, lifetime i of one
        # split would have the amplitudes and inputs of lifetime i of another.
        seeds = tf.reshape(tf.random.split(seed, 5 * len(SPLITS)), [len(SPLITS), 5, 2])[SPLITS.index(split)]
        amplitude, phase = self.sample_sines(seeds[:2], split)
        order = tf.repeat(tf.range(self.num_concepts), self.steps // self.num_concepts)
        if not self.continual:
            order = tf.random.experimental.stateless_shuffle(order, seeds[2])
        support = self._examples(seeds[3], order, self.batch_size, amplitude, phase)
        concepts = tf.range(self.num_concepts)
        query = self._examples(seeds[4], concepts, self.query_examples // self.num_concepts, amplitude, phase)
        return Episode(*support, *(tf.reshape(part, [self.query_examples, part.shape[-1]]) for part in query))

    def sample_sines(self, seeds: tf.Tensor, split: str) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws amplitudes and phases of one lifetime, `[num_sines]` each.

        Args:
            seeds: two stateless seeds `[2, 2]`.
            split: one of `SPLITS`. Phases of two splits are never equal.
        """
        shape = [self.num_concepts]
        amplitude = tf.random.stateless_uniform(shape, seeds[0], *AMPLITUDES)
        # One draw gives the band of the split and the place in its middle 99 %, which
        # keeps float32 rounding from crossing a border.
        place = tf.random.stateless_uniform(shape, seeds[1], 0.0, PHASE_BANDS / len(SPLITS))
        band = tf.floor(place)
        within = 0.005 + 0.99 * (place - band)
        phase = (band * len(SPLITS) + SPLITS.index(split) + within) * (math.pi / PHASE_BANDS)
        return amplitude, phase

    def _examples(self, seed, concepts, batch, amplitude, phase) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns inputs `[n, batch, num_sines + 1]` and targets `[n, batch, 1]` for `concepts [n]`."""
        x = tf.random.stateless_uniform([concepts.shape[0], batch, 1], seed, *INPUTS)
        y = tf.gather(amplitude, concepts)[:, None, None] * tf.sin(x + tf.gather(phase, concepts)[:, None, None])
        one_hot = tf.tile(tf.one_hot(concepts, self.num_concepts)[:, None], [1, batch, 1])
        return tf.concat([one_hot, x], -1), y


def _check_divisible(lifetime: int, num_sines: int) -> None:
    if lifetime % num_sines:
        raise InputError(
            f"--lifetime={lifetime} is not divisible by --num_sines={num_sines}; "
            f"legal values are multiples of {num_sines}"
        )
