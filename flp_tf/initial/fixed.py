"""The paper's start: every lifetime starts from the slow weights."""

import tensorflow as tf

from flp_tf import seeds as lifetime_seeds
from flp_tf.initial.base import Initial


class FixedInitial(Initial):
    """`W_0` is the slow kernel, in every lifetime (paper, section 4)."""

    trains = ()

    def call(self, kernel: tf.Tensor, seeds: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the slow kernel, once per lifetime; see `Initial.call`."""
        return lifetime_seeds.once_each(kernel, seeds)
