"""Direct feedback from the output, as in the paper."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from flp_tf.feedback.base import Activities, Pathway, PathwayOptions
from flp_tf.registry import option

# Two such layers have 400 MB of weights, and every plastic layer has its own.
MOST_UNITS = 10_000


@dataclasses.dataclass(frozen=True)
class DirectOptions(PathwayOptions):
    """Options of the direct pathway."""

    activation: str = option("relu", "Activation of the feedback pathway.", legal=("relu", "linear"))
    bias: float = option(0.0, "Initial c: bias of every layer of the feedback pathway.")
    units: tuple[int, ...] = option(
        (), "Hidden layers of the feedback pathway, such as 100,100.", least=1, most=MOST_UNITS
    )


class DirectFeedback(Pathway):
    """`z = act(f B + c)`, or several such layers in a row (paper, section 4).

    Args:
        signal_size: number of entries of the feedback signal.
        strength: initial `beta`.
        activation: `"relu"` (the paper's) or `"linear"`.
        bias: initial `c`. Above 0 it keeps a single ReLU from being silent from the start.
        units: sizes of hidden layers between the signal and `z`; none in the paper.
        **kwargs: of `keras.layers.Layer`.
    """

    Options = DirectOptions

    def __init__(
        self,
        signal_size: int,
        strength: float = 0.5,
        activation: str = "relu",
        units: Sequence[int] = (),
        bias: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(signal_size, strength, **kwargs)
        self.activation = keras.activations.get(activation)
        self.initial_bias = bias
        self.units = tuple(units)

    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        activation = keras.activations.serialize(self.activation)
        return {**super().arguments(), "activation": activation, "units": self.units, "bias": self.initial_bias}

    def build_pathway(self, activity_shape: tuple[int, ...]) -> None:
        """Makes `B` and `c` of every layer of the pathway."""
        sizes = (self.signal_size, *self.units, math.prod(activity_shape))
        pairs = list(enumerate(itertools.pairwise(sizes)))
        self.kernels = [self.add_weight(name=f"kernel_{i}", shape=size, initializer="he_normal") for i, size in pairs]
        bias = keras.initializers.Constant(self.initial_bias)
        self.biases = [self.add_weight(name=f"bias_{i}", shape=size[1:], initializer=bias) for i, size in pairs]

    def hidden(self, signal: tf.Tensor) -> tf.Tensor:
        """Returns the activity below the last kernel: the signal, where there are no hidden layers."""
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1]):
            signal = self.activation(tf.tensordot(signal, kernel.value, 1) + bias)
        return signal

    def drive(self, signal: tf.Tensor, above: Activities, state: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns `f B + c`, of which `z` is the activation, `[..., batch, units]`; see `Pathway.pathway`."""
        del above, state
        return tf.tensordot(self.hidden(signal), self.kernels[-1].value, 1) + self.biases[-1]

    def pathway(self, signal: tf.Tensor, above: Activities, state: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns `z [..., batch, *activity_shape]`; see `Pathway.pathway`."""
        activity = self.activation(self.drive(signal, above, state))
        if len(self.activity_shape) > 1:
            batch_axes = tf.shape(signal)[:-1]
            activity = tf.reshape(activity, tf.concat([batch_axes, self.activity_shape], 0))
        return activity
