"""The contract of a feedback pathway, and how feedback mixes into a layer's activity."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from flp_tf.component import Component, group_of, named_variables
from flp_tf.registry import option

Shapes = Mapping[str, tuple[int, ...]]
Activities = Mapping[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class PathwayOptions:
    """Options of every pathway; flags start with `--feedback_`."""

    strength: float = option(0.5, "Initial beta: how much of the post-feedback activity is feedback.")


class Pathway(Component):
    """Mixes feedback into a plastic layer's activity, `p = (1 - beta) * h + beta * z` (paper, section 4).

    Subclasses make their weights in `build_pathway` and compute `z` in `pathway`. `beta`,
    the feedback strength, is one meta-learned number per layer. A pathway may have a state
    that changes in a lifetime, such as a plastic feedback kernel: see `initial_state` and `update`.

    Args:
        signal_size: number of entries of the feedback signal.
        strength: initial `beta`.
        **kwargs: of `keras.layers.Layer`.
    """

    Options = PathwayOptions
    trains = ("feedback",)

    def __init__(self, signal_size: int, strength: float = 0.5, **kwargs: Any):
        super().__init__(**kwargs)
        self.signal_size = signal_size
        self.initial_strength = strength

    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"signal_size": self.signal_size, "strength": self.initial_strength}

    def build(self, activity_shape: tuple[int, ...], above_shapes: Shapes | None = None) -> None:
        """Makes the weights.

        Args:
            activity_shape: of the layer's activity, without batch axes.
            above_shapes: of the plastic layers above it, by name, the output last.
        """
        self.activity_shape = tuple(activity_shape)
        self.above_shapes = dict(above_shapes or {})
        self.build_pathway(self.activity_shape)
        self.strength = self.add_weight(
            name="strength", shape=(), initializer=keras.initializers.Constant(self.initial_strength)
        )
        self.built = True

    def build_pathway(self, activity_shape: tuple[int, ...]) -> None:
        """Makes the pathway's own weights, in the outer group `feedback`; `above_shapes` is set."""

    def initial_state(self, seeds: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Returns what of the pathway changes in a lifetime, each with a leading axis of lifetimes; nothing by default.

        Args:
            seeds: one stateless seed per lifetime, int32 `[lifetimes, 2]`; None for one lifetime without that axis.
        """
        del seeds
        return {}

    def pathway(self, signal: tf.Tensor, above: Activities, state: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns the feedback activity `z [..., batch, *activity_shape]`.

        Args:
            signal: feedback signal `f [..., batch, signal]`.
            above: post-feedback activities of the plastic layers above, by name, for those in `above_shapes`.
            state: as from `initial_state`.
        """
        raise TypeError(f"{type(self).__name__} does not define pathway(signal, above, state)")

    def update(self, state: Mapping[str, tf.Tensor], signal: tf.Tensor, post: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the pathway's state after one inner step; unchanged by default.

        Args:
            state: as from `initial_state`.
            signal: the feedback signal, presynaptic to the pathway.
            post: post-feedback activity of the layer, `[..., batch, *activity_shape]`.
        """
        del signal, post
        return dict(state)

    def call(
        self,
        activity: tf.Tensor,
        signal: tf.Tensor,
        above: Activities | None = None,
        state: Mapping[str, tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """Returns the post-feedback activity `p = h + beta (z - h)`, shaped like `activity`."""
        return activity + self.strength * (self.pathway(signal, above or {}, state or {}) - activity)

    def fix_kernels(self) -> None:
        """Excludes all feedback weights of two or more axes from meta-training: random feedback (DFA)."""
        for path, weight in named_variables(self, "feedback").items():
            if len(weight.shape) > 1 and group_of(path) == "feedback":
                weight.trainable = False


def flat(activity: tf.Tensor, activity_shape: tuple[int, ...]) -> tf.Tensor:
    """Returns an activity `[..., *activity_shape]` as `[..., units]`."""
    if len(activity_shape) == 1:
        return activity
    batch_axes = tf.shape(activity)[: -len(activity_shape)]
    return tf.reshape(activity, tf.concat([batch_axes, [math.prod(activity_shape)]], 0))
