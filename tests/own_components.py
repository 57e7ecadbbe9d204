"""Components as a user would write them, and a small network."""

import math

import keras
import tensorflow as tf

from flp_tf.feedback import Pathway
from flp_tf.initial import FixedInitial, Initial
from flp_tf.layers import PlasticDense
from flp_tf.networks import Network
from flp_tf.plasticity import Rule


class Weighted(Rule):
    """A rule with a weight."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def arguments(self):
        return {"factor": self.factor}

    def build(self, kernel_shape):
        self.theta = self.add_weight(name="theta", shape=(1, kernel_shape[1]), initializer="ones")
        self.built = True

    def call(self, kernel, pre, post):
        return self.factor * self.theta * tf.matmul(pre, post, transpose_a=True)


class Shifted(Initial):
    """An initial distribution with a weight."""

    def build(self, kernel_shape):
        self.shift = self.add_weight(name="shift", shape=kernel_shape, initializer="ones")
        self.built = True

    def call(self, kernel, seeds=None):
        return FixedInitial.call(self, kernel + self.shift, seeds)


class DenseInside(Pathway):
    """A pathway through a layer of Keras."""

    def build_pathway(self, activity_shape):
        self.dense = keras.layers.Dense(math.prod(activity_shape), dtype=self.dtype_policy)
        self.dense.build((None, self.signal_size))

    def pathway(self, signal, above, state):
        return tf.reshape(self.dense(signal), (*signal.shape[:-1], *self.activity_shape))


def small_network(**options):
    """Returns a trunk of one layer and two plastic ones."""
    trunk = [keras.layers.Dense(5, name="below")]
    return Network(trunk, [PlasticDense(n, name=f"plastic_{n}", **options) for n in (4, 3)], (2,))
