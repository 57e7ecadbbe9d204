"""Feedback from all plastic layers above, beside that from the output."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from flp_tf.feedback.base import Activities, flat
from flp_tf.feedback.direct import DirectFeedback, DirectOptions
from flp_tf.registry import option


@dataclasses.dataclass(frozen=True)
class CascadeOptions(DirectOptions):
    """Options of the cascade."""

    direct: bool = option(True, "Whether hidden layers get the signal itself, too, not the layers above alone.")


class CascadeFeedback(DirectFeedback):
    """`z_l = act(f B_l + sum over m > l of p_m C_ml + c_l)` (paper, section 8.1).

    `p_m` is the post-feedback activity of a plastic layer above. Without the direct part
    `f B_l` the signal enters at the output layer alone, which has no layers above it, and so do
    hidden layers of the feedback (`units`).

    Args:
        signal_size: number of entries of the feedback signal.
        direct: whether layers below the output have the direct part.
        **kwargs: of `DirectFeedback`.
    """

    Options = CascadeOptions

    def __init__(self, signal_size: int, direct: bool = CascadeOptions.direct, **kwargs: Any):
        super().__init__(signal_size, **kwargs)
        self.direct = direct

    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().arguments(), "direct": self.direct}

    def build_pathway(self, activity_shape: tuple[int, ...]) -> None:
        """Makes `B` and `c` of the direct part, or `c` alone, and a `C` per layer above, by its name."""
        units = math.prod(activity_shape)
        if self.direct or not self.above_shapes:
            super().build_pathway(activity_shape)
        else:
            self.kernels = []
            bias = keras.initializers.Constant(self.initial_bias)
            self.biases = [self.add_weight(name="bias_0", shape=(units,), initializer=bias)]
        self.from_above = {
            name: self.add_weight(name=f"from_{name}", shape=(math.prod(shape), units), initializer="he_normal")
            for name, shape in self.above_shapes.items()
        }

    def drive(self, signal: tf.Tensor, above: Activities, state: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns what the activation is of; see `DirectFeedback.drive`."""
        drive = super().drive(signal, above, state) if self.kernels else self.biases[-1].value
        for name, kernel in self.from_above.items():
            drive = drive + tf.tensordot(flat(above[name], self.above_shapes[name]), kernel.value, 1)
        return drive
