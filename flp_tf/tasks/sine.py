"""Online regression of several sines (paper, section 5.1)."""

import math
from typing import ClassVar

import tensorflow as tf

from flp_tf.tasks.base import SPLITS, Episode, Task

AMPLITUDES = (0.1, 5.0)
INPUTS = (-5.0, 5.0)
# Phases in [0, pi] are cut into this many bands, dealt to the splits in turn: every
# split covers the paper's distribution evenly, and no sine belongs to two.
PHASE_BANDS = 1000 * len(SPLITS)


class Sine(Task):
    """Ten sines learned in one lifetime, `y = A sin(x + phase)`.

    `A ~ U[0.1, 5]`, `phase ~ U[0, pi]`, `x ~ U[-5, 5]`. The input is the one-hot
    number of the sine and `x`. Each inner step is a batch of one sine; in a continual
    lifetime all steps of a sine come before those of the next, in an i.i.d. one the
    batches are shuffled.

    Args:
        num_sines: sines of a lifetime.
        steps: inner steps of a lifetime, over all sines.
        batch_size: examples of an inner step.
        query_size: query examples of each sine.
        continual: sine after sine rather than shuffled.

    Raises:
        ValueError: if the lifetime is not divisible by the sines.
    """

    concept: ClassVar = "sine"
    defaults: ClassVar = {
        "network": "sine_paper",
        "episodes": 20_000,
        "lifetime": 400,
        "batch_size": 32,
        "query_size": 64,
        "feedback_signal": "error",
        "clamp_output": False,
        "plasticity_scale": 1e-4,
        "hidden_plasticity_factor": 1.0,
        "inner_rate": 0.003,
    }

    def __init__(
        self, num_sines: int = 10, steps: int = 400, batch_size: int = 32, query_size: int = 64, continual: bool = False
    ):
        if steps % num_sines:
            raise ValueError(
                f"--lifetime={steps} is not divisible by --num_sines={num_sines}; "
                f"legal values are multiples of {num_sines}"
            )
        self.num_concepts = num_sines
        self.input_shape = (num_sines + 1,)
        self.num_outputs = 1
        self.steps = steps
        self.batch_size = batch_size
        self.query_size = query_size * num_sines
        self.continual = continual

    @classmethod
    def from_config(cls, config) -> "Sine":
        return cls(config.num_sines, config.lifetime, config.batch_size, config.query_size, config.continual)

    def longer(self, scale: int) -> "Sine":
        queries = self.query_size // self.num_concepts
        return type(self)(self.num_concepts, self.steps * scale, self.batch_size, queries, self.continual)

    def picture(self, learner, seed: int):
        from flp_tf.tasks import pictures

        return pictures.sines(self, learner, seed)

    def sample_lifetime(self, seed: tf.Tensor, split: str) -> Episode:
        # Seeds of its own for every split: phases alone would make lifetime i of one
        # split a neighbour of lifetime i of another, with the same amplitudes and inputs.
        seeds = tf.reshape(tf.random.split(seed, 5 * len(SPLITS)), [len(SPLITS), 5, 2])[SPLITS.index(split)]
        amplitude, phase = self.sample_sines(seeds[:2], split)
        order = tf.repeat(tf.range(self.num_concepts), self.steps // self.num_concepts)
        if not self.continual:
            order = tf.random.experimental.stateless_shuffle(order, seeds[2])
        support = self._examples(seeds[3], order, self.batch_size, amplitude, phase)
        concepts = tf.range(self.num_concepts)
        query = self._examples(seeds[4], concepts, self.query_size // self.num_concepts, amplitude, phase)
        return Episode(*support, *(tf.reshape(part, [self.query_size, part.shape[-1]]) for part in query))

    def sample_sines(self, seeds: tf.Tensor, split: str) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws amplitudes and phases `[num_sines]` of one lifetime.

        Args:
            seeds: two stateless seeds `[2, 2]`.
            split: one of `SPLITS`; phases of two splits are never equal.
        """
        shape = [self.num_concepts]
        amplitude = tf.random.stateless_uniform(shape, seeds[0], *AMPLITUDES)
        # One draw gives the split's band and the place within its middle 99 %, which
        # keeps float32 rounding from crossing a border.
        place = tf.random.stateless_uniform(shape, seeds[1], 0.0, PHASE_BANDS / len(SPLITS))
        band = tf.floor(place)
        within = 0.005 + 0.99 * (place - band)
        phase = (band * len(SPLITS) + SPLITS.index(split) + within) * (math.pi / PHASE_BANDS)
        return amplitude, phase

    def _examples(self, seed, concepts, batch, amplitude, phase) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns inputs `[n, batch, num_sines + 1]` and targets for `concepts [n]`."""
        x = tf.random.stateless_uniform([concepts.shape[0], batch, 1], seed, *INPUTS)
        y = tf.gather(amplitude, concepts)[:, None, None] * tf.sin(x + tf.gather(phase, concepts)[:, None, None])
        one_hot = tf.tile(tf.one_hot(concepts, self.num_concepts)[:, None], [1, batch, 1])
        return tf.concat([one_hot, x], -1), y
