"""A fully connected plastic layer."""

import math
from typing import Any

import tensorflow as tf

from flp_tf.feedback.base import Shapes
from flp_tf.layers.base import LayerState, PlasticLayer


class PlasticDense(PlasticLayer):
    """`h = act(x W + b)` with fast weights `W` (paper, section 4).

    Args:
        units: number of neurons.
        **kwargs: see `PlasticLayer`.
    """

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units

    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"units": self.units, **super().arguments()}

    def build(self, input_shape: tuple[int, ...], above_shapes: Shapes | None = None) -> None:
        """Makes the weights.

        Args:
            input_shape: of the inputs, one batch axis first.
            above_shapes: of the activities of the plastic layers above, by name.
        """
        self.example_shape = tuple(input_shape[1:])
        self.build_weights((math.prod(self.example_shape), self.units), (self.units,), above_shapes)

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the activity, with the batch axis of `input_shape`."""
        return (input_shape[0], self.units)

    def presynaptic(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns `inputs` as rows of synapses `[..., batch, in]`; maps are flattened."""
        if len(self.example_shape) == 1:
            return inputs
        batch_axes = tf.shape(inputs)[: -len(self.example_shape)]
        return tf.reshape(inputs, tf.concat([batch_axes, [self.fan_in]], 0))

    def call(self, inputs: tf.Tensor, state: LayerState) -> tf.Tensor:
        """Returns activities `[..., batch, units]`.

        Args:
            inputs: `[..., batch, in]`, or maps, which are flattened.
            state: the layer's state, with fast weights `[..., in, units]`.
        """
        return self.activation(tf.matmul(self.presynaptic(inputs), state["kernel"]) + self.bias_in(state))
