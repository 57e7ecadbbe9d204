"""A convolutional plastic layer with shared weights."""

import tensorflow as tf

from flp_tf.layers.base import PlasticLayer


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

    def __init__(self, filters: int, kernel_size: int = 3, strides: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides

    def build(self, input_shape: tuple[int, ...], state_shape: tuple[int, ...] | None = None) -> None:
        """Makes the weights for inputs `[..., height, width, channels]`."""
        del state_shape
        height, width, channels = input_shape[-3:]
        self.positions = tuple((size - self.kernel_size) // self.strides + 1 for size in (height, width))
        if min(self.positions) < 1:
            raise ValueError(f"--network: maps of {height}x{width} are smaller than a kernel of {self.kernel_size}")
        self.build_weights(
            (self.kernel_size, self.kernel_size, channels, self.filters), (*self.positions, self.filters)
        )

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
        return _rows(self.patches(inputs))

    def postsynaptic(self, activity: tf.Tensor) -> tf.Tensor:
        return _rows(activity)

    def call(self, inputs: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        """Returns activities `[..., batch, rows, columns, filters]`.

        Args:
            inputs: `[..., batch, height, width, channels]`.
            state: fast weights `[..., kernel_size**2 * channels, filters]`.
        """
        patches = self.patches(inputs)
        activity = self.activation(tf.matmul(_rows(patches), state) + self.bias)
        return tf.reshape(activity, tf.concat([tf.shape(patches)[:-1], [self.filters]], 0))


def _rows(maps: tf.Tensor) -> tf.Tensor:
    """Flattens `[..., batch, rows, columns, n]` to `[..., batch * rows * columns, n]`."""
    shape = tf.shape(maps)
    return tf.reshape(maps, tf.concat([shape[:-4], [-1, maps.shape[-1]]], 0))
