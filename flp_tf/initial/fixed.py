"""The paper's start: every lifetime starts from the slow weights."""

import tensorflow as tf

from flp_tf.initial.base import Initial


class FixedInitial(Initial):
    """`W_0` is the slow kernel, in every lifetime (paper, section 4)."""

    def call(self, kernel: tf.Tensor, seeds: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the slow kernel, once per lifetime; see `Initial.call`."""
        if seeds is None:
            return kernel
        return tf.broadcast_to(kernel, tf.concat([tf.shape(seeds)[:1], kernel.shape], 0))
