"""A convolutional plastic layer with shared weights."""

from typing import Any

import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.feedback.base import Shapes
from flp_tf.layers.base import LayerState, PlasticLayer


class PlasticConv2D(PlasticLayer):
    """A valid convolution with fast weights, as a dense layer on patches.

    Weights are shared over positions, so the local update sums presynaptic patch
    times postsynaptic activity over all positions as well as over the batch: every
    position of every example is one sample of the rule.

    Args:
        filters: number of output channels.
        kernel_size: height and width of the kernel.
        strides: stride in both directions.
        **kwargs: see `PlasticLayer`.
    """

    def __init__(self, filters: int, kernel_size: int = 3, strides: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides

    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"filters": self.filters, "kernel_size": self.kernel_size, "strides": self.strides}
        return {**own, **super().arguments()}

    def build(self, input_shape: tuple[int, ...], above_shapes: Shapes | None = None) -> None:
        """Makes the weights.

        Args:
            input_shape: `[..., height, width, channels]`.
            above_shapes: of the activities of the plastic layers above, by name.

        Raises:
            InputError: if the maps are smaller than the kernel.
        """
        height, width, channels = input_shape[-3:]
        self.positions = tuple(self.compute_output_shape(input_shape)[-3:-1])
        if min(self.positions) < 1:
            raise InputError(f"--network: maps of {height}x{width} are smaller than a kernel of {self.kernel_size}")
        kernel_shape = (self.kernel_size, self.kernel_size, channels, self.filters)
        self.build_weights(kernel_shape, (*self.positions, self.filters), above_shapes)

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the activity, with the batch axis of `input_shape`."""
        positions = [(size - self.kernel_size) // self.strides + 1 for size in input_shape[-3:-1]]
        return (*input_shape[:-3], *positions, self.filters)

    def patches(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the patches `[..., rows, columns, kernel_size**2 * channels]`."""
        rows, columns = self.positions
        reach = [(n - 1) * self.strides + 1 for n in (rows, columns)]
        shifted = [
            inputs[..., i : i + reach[0] : self.strides, j : j + reach[1] : self.strides, :]
            for i in range(self.kernel_size)
            for j in range(self.kernel_size)
        ]
        return tf.concat(shifted, axis=-1)

    def presynaptic(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns patches as rows of synapses `[..., batch * rows * columns, kernel_size**2 * channels]`."""
        return _rows(self.patches(inputs))

    def postsynaptic(self, activity: tf.Tensor) -> tf.Tensor:
        """Returns activities as rows of neurons `[..., batch * rows * columns, filters]`."""
        return _rows(activity)

    def call(self, inputs: tf.Tensor, state: LayerState) -> tf.Tensor:
        """Returns activities `[..., batch, rows, columns, filters]`.

        Args:
            inputs: `[..., batch, height, width, channels]`.
            state: the layer's state, with fast weights `[..., kernel_size**2 * channels, filters]`.
        """
        patches = self.patches(inputs)
        activity = self.activation(tf.matmul(_rows(patches), state["kernel"]) + self.bias_in(state))
        return tf.reshape(activity, tf.concat([tf.shape(patches)[:-1], [self.filters]], 0))


def _rows(maps: tf.Tensor) -> tf.Tensor:
    """Flattens `[..., batch, rows, columns, n]` to `[..., batch * rows * columns, n]`."""
    shape = tf.shape(maps)
    return tf.reshape(maps, tf.concat([shape[:-4], [-1, maps.shape[-1]]], 0))
