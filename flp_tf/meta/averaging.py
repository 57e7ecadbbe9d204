"""The average of the outer iterates, which can be better than the last iterate."""

import contextlib
from collections.abc import Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf


class Average:
    """A running mean of weights over outer steps.

    After step `t`, with weights `w`:

        mean <- mean + max(1 - decay, 1 / t) * (w - mean)

    Up to step `1 / (1 - decay)` this is the mean of all iterates (Polyak and Juditsky 1992),
    after it an exponential moving average. It does not depend on the initial weights.

    Args:
        weights: the weights by path, with their initial values.
        decay: at least 0, which keeps only the last iterate, and below 1.

    Attributes:
        means: the mean of each weight, by path.
        count: the number of iterates in it.
    """

    def __init__(self, weights: Mapping[str, keras.Variable], decay: float):
        self.weights, self.decay = dict(weights), decay
        self.means = {path: _variable(weight.value.numpy()) for path, weight in weights.items()}
        self.count = _variable(np.int64(0))

    def update(self) -> None:
        """Adds the present weights to the mean; works on a replica, too, as all replicas have the same weights."""
        count = self.count.assign_add(1)
        rate = tf.maximum(tf.constant(1.0 - self.decay, tf.float64), 1.0 / tf.cast(count, tf.float64))
        for path, mean in self.means.items():
            mean.assign_add(tf.cast(rate, mean.dtype) * (self.weights[path].value - mean))

    def use(self) -> None:
        """Gives the weights the values of the mean."""
        for path, mean in self.means.items():
            self.weights[path].assign(mean.numpy())

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """A context in which the weights have the values of the mean."""
        iterate = {path: weight.value.numpy() for path, weight in self.weights.items()}
        self.use()
        try:
            yield
        finally:
            for path, value in iterate.items():
                self.weights[path].assign(value)


def _variable(value: np.ndarray) -> tf.Variable:
    return tf.Variable(value, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
