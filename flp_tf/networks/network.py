"""A network: trunk layers that do not change in a lifetime, then plastic ones."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from flp_tf.component import GROUPS, Component
from flp_tf.errors import InputError
from flp_tf.layers import PlasticLayer
from flp_tf.layers.base import LayerState
from flp_tf.networks.own import layers_of, units
from flp_tf.seeds import fold

# By the name of the plastic layer.
State = dict[str, LayerState]


class Network(Component):
    """Trunk and plastic head (paper, section 4).

    The plastic layers change within a lifetime. All others, below them, are the trunk:
    meta-learned, but the same throughout a lifetime.

    Args:
        trunk: Keras layers or models, from the input up; none for a network that is all plastic.
        head: plastic layers, the output last. Their names must differ.
        input_shape: shape of one example.
        **kwargs: of `keras.layers.Layer`, such as `dtype="float64"`.

    Attributes:
        layers: all layers by name, from the input up.
        example_shape: shape of one example.
        feature_shape: shape of the trunk's features, the input of the first plastic layer.
        trunk_units: numbers that the trunk computes for one example.

    Raises:
        InputError: if there is no plastic layer, two layers have the same name, a
            layer has the name of a group, or a plastic layer is of another dtype.
    """

    def __init__(
        self,
        trunk: Sequence[keras.layers.Layer],
        head: Sequence[PlasticLayer],
        input_shape: Sequence[int],
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.layers = {layer.name: layer for layer in (*trunk, *head)}
        if not head or len(self.layers) < len(trunk) + len(head):
            raise InputError("a network needs at least one plastic layer, and layers of different names")
        self._check_layers(head)
        self.depth = len(head)
        self.example_shape = tuple(input_shape)
        shape = self.example_shape
        self.input_shapes, self.trunk_units = {}, 0
        for layer in trunk:
            shape = (math.prod(shape),) if isinstance(layer, keras.layers.Dense) else shape
            self.input_shapes[layer.name] = shape
            _build(layer, shape)
            self.trunk_units += units(layer, shape)
            shape = tuple(layer.compute_output_shape((None, *shape))[1:])
        self.feature_shape = shape
        activity_shapes = {}
        for layer in head:
            self.input_shapes[layer.name] = shape
            shape = activity_shapes[layer.name] = tuple(layer.compute_output_shape((None, *shape))[1:])
        for layer in head:
            del activity_shapes[layer.name]  # What is left is above it.
            _build(layer, self.input_shapes[layer.name], above_shapes=dict(activity_shapes))
        self.built = True

    def _check_layers(self, head: Sequence[PlasticLayer]) -> None:
        """Raises InputError for a layer's name that means a group of weights, and for a type that does not fit."""
        if taken := sorted(self.layers.keys() & set(GROUPS)):
            raise InputError(f"a layer cannot be named {taken[0]}, which is a group of weights; name it otherwise")
        for layer in head:
            if layer.compute_dtype != self.compute_dtype:
                raise InputError(
                    f"layer {layer.name} computes in {layer.compute_dtype}, its network in {self.compute_dtype}; "
                    "give both the same dtype"
                )

    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"trunk": self.trunk, "head": self.head, "input_shape": self.example_shape}

    @property
    def trunk(self) -> list[keras.layers.Layer]:
        """The layers below the plastic ones, from the input up."""
        return list(self.layers.values())[: -self.depth]

    @property
    def head(self) -> list[PlasticLayer]:
        """The plastic layers, the output last."""
        return list(self.layers.values())[-self.depth :]

    @property
    def convolutional_trunk(self) -> bool:
        """Whether the trunk has a convolution."""
        return any(isinstance(part, keras.layers.Conv2D) for layer in self.trunk for part in layers_of(layer))

    def encode(self, x: tf.Tensor) -> tf.Tensor:
        """Runs the trunk.

        Args:
            x: examples `[..., *input_shape]`.

        Returns:
            Features `[..., *feature_shape]`, the input of the first plastic layer.
        """
        x = tf.convert_to_tensor(x, None if tf.is_tensor(x) else self.compute_dtype)
        axes = x.shape.rank - len(self.example_shape)
        features = tf.reshape(x, [-1, *self.example_shape])
        for layer in self.trunk:
            features = layer(tf.reshape(features, [-1, *self.input_shapes[layer.name]]))
        features = tf.reshape(features, tf.concat([tf.shape(x)[:axes], self.feature_shape], 0))
        features.set_shape(x.shape[:axes] + self.feature_shape)
        return tf.cast(features, self.compute_dtype)

    def initial_state(self, seeds: tf.Tensor | None = None) -> State:
        """Returns the first state of every plastic layer, each drawn from seeds of its own.

        Args:
            seeds: see `PlasticLayer.get_initial_state`.
        """
        return {layer.name: layer.get_initial_state(fold(seeds, i)) for i, layer in enumerate(self.head)}

    def activities(self, state: State, features: tf.Tensor) -> list[tf.Tensor]:
        """Runs the plastic head.

        Args:
            state: of every plastic layer, by name.
            features: `[..., batch, *feature_shape]`.

        Returns:
            `[h_0, ..., h_N]`: the features, then every plastic layer's activity; the
            last is the output `[..., batch, num_outputs]`.
        """
        activities = [features]
        for layer in self.head:
            activities.append(layer(activities[-1], state[layer.name]))
        return activities


def _build(layer: keras.layers.Layer, shape: tuple[int, ...], **kwargs: Any) -> None:
    """Makes the weights of a layer for inputs of `shape`, unless it has them."""
    if not layer.built:
        layer.build((None, *shape), **kwargs)
