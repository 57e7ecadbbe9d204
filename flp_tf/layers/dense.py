"""A fully connected plastic layer."""

import math

import tensorflow as tf

from flp_tf.layers.base import PlasticLayer


class PlasticDense(PlasticLayer):
    """`h = act(x W + b)` with fast weights `W` (paper, section 3).

    Args:
        units: number of neurons.
        **kwargs: see `PlasticLayer`.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: tuple[int, ...], state_shape: tuple[int, ...] | None = None) -> None:
        """Makes the weights for inputs of `input_shape`, one batch axis first."""
        del state_shape
        self.example_shape = tuple(input_shape[1:])
        self.build_weights((math.prod(self.example_shape), self.units), (self.units,))

    def presynaptic(self, inputs: tf.Tensor) -> tf.Tensor:
        if len(self.example_shape) == 1:
            return inputs
        batch_axes = tf.shape(inputs)[: -len(self.example_shape)]
        return tf.reshape(inputs, tf.concat([batch_axes, [self.fan_in]], 0))

    def call(self, inputs: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        """Returns activities `[..., batch, units]`.

        Args:
            inputs: `[..., batch, in]`, or maps, which are flattened.
            state: fast weights `[..., in, units]`.
        """
        return self.activation(tf.matmul(self.presynaptic(inputs), state) + self.bias)
