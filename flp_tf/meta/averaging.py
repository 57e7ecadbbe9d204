"""The average of the outer iterates, which can be better than the last of them."""

import contextlib
import functools
from collections.abc import Iterator, Mapping

import keras
import tensorflow as tf


class Average:
    """A running mean of weights over outer steps.

    After step `t`, with weights `w`:

        mean <- mean + max(1 - decay, 1 / t) * (w - mean)

    Up to step `1 / (1 - decay)` it is the mean of all iterates (Polyak and Juditsky 1992),
    then an exponential moving average. It does not depend on the initial weights.

    Args:
        weights: the weights by path, with their initial values.
        decay: from 0, which keeps the last iterate, to below 1.

    Attributes:
        means: the mean of each weight, by path.
        count: the number of iterates in it.
    """

    def __init__(self, weights: Mapping[str, keras.Variable], decay: float):
        self.weights, self.decay = dict(weights), decay
        self.means = {path: tf.Variable(weight.value.numpy(), trainable=False) for path, weight in weights.items()}
        self.count = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._update = tf.function(functools.partial(_update, self), autograph=False)

    def update(self) -> None:
        """Takes the present weights into the mean."""
        self._update()

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


def _update(average: Average) -> None:
    """Does what `Average.update` says, in a graph."""
    count = average.count.assign_add(1)
    rate = tf.maximum(tf.constant(1.0 - average.decay, tf.float64), 1.0 / tf.cast(count, tf.float64))
    for path, mean in average.means.items():
        mean.assign_add(tf.cast(rate, mean.dtype) * (average.weights[path].value - mean))
