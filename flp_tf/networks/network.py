"""A network: trunk layers that are frozen in a lifetime, then plastic ones."""

import math
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from flp_tf.layers import PlasticConv2D, PlasticDense, PlasticLayer
from flp_tf.networks.architectures import Conv, Dense

State = tuple[tf.Tensor, ...]

# Of all convolutions.
KERNEL_SIZE = 3


class Network(keras.layers.Layer):
    """Trunk and plastic head (paper, section 4).

    The last `num_plastic_layers` layers, the linear output among them, are plastic.
    All others are the trunk: meta-learned, but the same throughout a lifetime.

    Args:
        layers: hidden layers, from `architectures.parse`.
        input_shape: shape of one example.
        num_outputs: size of the output layer.
        num_plastic_layers: how many layers, from the output down, are plastic.
        plastic_options: returns the keyword arguments of a plastic layer, given
            whether it is the output layer. Called once a layer, so that a feedback
            pathway in them is the layer's own.
        trunk_dtype: Keras dtype policy of the trunk, `"mixed_bfloat16"` for bfloat16
            arithmetic on float32 weights.
        **kwargs: of `keras.layers.Layer`, such as `dtype`.

    Raises:
        ValueError: if more layers are to be plastic than there are, or none, or if a
            convolution's input is no map of its kernel's size.
    """

    def __init__(
        self,
        layers: Sequence[Dense | Conv],
        input_shape: tuple[int, ...],
        num_outputs: int,
        num_plastic_layers: int,
        plastic_options: Callable[[bool], dict] = lambda is_output: {},
        trunk_dtype: str | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        specs = (*layers, Dense(num_outputs))
        if not 1 <= num_plastic_layers <= len(specs):
            raise ValueError(
                f"--num_plastic_layers={num_plastic_layers} is not possible; the network has {len(specs)} layers, "
                f"legal values are 1 to {len(specs)}"
            )
        self.example_shape = tuple(input_shape)
        self.trunk: list[keras.layers.Layer] = []
        self.head: list[PlasticLayer] = []
        self.trunk_units = 0
        self.input_shapes = []
        shape = self.example_shape
        for i, spec in enumerate(specs):
            if isinstance(spec, Conv) and (len(shape) != 3 or min(shape[:2]) < KERNEL_SIZE):
                raise ValueError(
                    f"--network: convolution {i + 1} gets inputs of {'x'.join(map(str, shape))}; legal are maps of "
                    f"at least {KERNEL_SIZE}x{KERNEL_SIZE} (fewer strides, or a larger --image_size)"
                )
            plastic = i >= len(specs) - num_plastic_layers
            if plastic:
                is_output = i == len(specs) - 1
                options = {"activation": "linear" if is_output else "relu", **plastic_options(is_output)}
                layer = _plastic_layer(spec, name=f"layer_{i}", dtype=self.dtype_policy, **options)
                self.head.append(layer)
            else:
                layer = _trunk_layer(spec, name=f"layer_{i}", dtype=trunk_dtype or self.dtype_policy)
                self.trunk.append(layer)
                shape = (math.prod(shape),) if isinstance(spec, Dense) else shape
            layer.build((None, *shape))
            self.input_shapes.append(shape)
            shape = layer.activity_shape if plastic else tuple(layer.compute_output_shape((None, *shape))[1:])
            self.trunk_units += 0 if plastic else math.prod(shape)
        self.feature_shape = self.input_shapes[len(self.trunk)]
        self.built = True

    @property
    def convolutional_trunk(self) -> bool:
        """Whether the trunk has a convolution."""
        return any(isinstance(layer, keras.layers.Conv2D) for layer in self.trunk)

    def encode(self, x: tf.Tensor) -> tf.Tensor:
        """Runs the trunk.

        Args:
            x: examples `[..., *input_shape]`.

        Returns:
            Features `[..., *feature_shape]`, the input of the first plastic layer.
        """
        batch_axes = tf.shape(x)[: x.shape.rank - len(self.example_shape)]
        static_axes = x.shape[: x.shape.rank - len(self.example_shape)]
        features = tf.reshape(x, [-1, *self.example_shape])
        for layer, shape in zip(self.trunk, self.input_shapes):
            features = layer(tf.reshape(features, [-1, *shape]))
        features = tf.reshape(features, tf.concat([batch_axes, self.feature_shape], 0))
        features = tf.ensure_shape(features, static_axes + self.feature_shape)
        return tf.cast(features, self.compute_dtype)

    def initial_state(self, batch_size: int | None = None) -> State:
        """Returns the fast weights of every plastic layer at birth."""
        return tuple(layer.get_initial_state(batch_size) for layer in self.head)

    def activities(self, state: State, features: tf.Tensor) -> list[tf.Tensor]:
        """Runs the plastic head.

        Args:
            state: fast weights, one `[..., in, out]` a plastic layer.
            features: `[..., batch, *feature_shape]`.

        Returns:
            `[h_0, ..., h_N]`: the features, then every plastic layer's activity; the
            last is the output `[..., batch, num_outputs]`.
        """
        activities = [features]
        for layer, fast in zip(self.head, state):
            activities.append(layer(activities[-1], fast))
        return activities


def _plastic_layer(spec: Dense | Conv, **options) -> PlasticLayer:
    if isinstance(spec, Conv):
        return PlasticConv2D(spec.filters, KERNEL_SIZE, strides=spec.strides, **options)
    return PlasticDense(spec.units, **options)


def _trunk_layer(spec: Dense | Conv, **options) -> keras.layers.Layer:
    options = {"activation": "relu", "kernel_initializer": "he_normal", **options}
    if isinstance(spec, Conv):
        return keras.layers.Conv2D(spec.filters, KERNEL_SIZE, strides=spec.strides, **options)
    return keras.layers.Dense(spec.units, **options)
