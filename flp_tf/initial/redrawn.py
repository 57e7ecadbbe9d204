"""Initial weights that no lifetime takes over from another."""

import math

import tensorflow as tf

from flp_tf import seeds as lifetime_seeds
from flp_tf.initial.base import Initial


class RedrawnInitial(Initial):
    """`W_0 = sqrt(2 / in) * noise`, drawn anew for every lifetime: He-normal, with nothing meta-learned.

    Where there are seeds, the slow kernel has no effect; without seeds it is `W_0`. The published
    gradient baselines do so with the output layer of Omniglot's networks, in every episode
    of meta-training only. Here (`--redraw_output`) it holds for meta-test, too.
    """

    trains = ()

    def call(self, kernel: tf.Tensor, seeds: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the fast kernels; see `Initial.call`."""
        if seeds is None:
            return kernel
        return math.sqrt(2 / kernel.shape[0]) * lifetime_seeds.normal(seeds, kernel.shape, kernel.dtype)
