"""What every feedback pathway shares: its strength, and how it mixes in."""

from collections.abc import Sequence

import keras
import tensorflow as tf


class Feedback(keras.layers.Layer):
    """Mixes feedback into a layer's activity: `p = (1 - beta) * h + beta * z`.

    Subclasses make their weights in `build_pathway` and compute `z` in `pathway`.
    `beta`, the feedback strength, is one meta-learned number a layer.

    Args:
        signal_size: number of entries of the feedback signal.
        strength: initial `beta`.
        train_kernels: False fixes the pathway's kernels (direct feedback alignment),
            for `build_pathway` to heed; biases and `beta` are meta-learned all the same.
        activation: `"relu"` (the paper's) or `"linear"`, for `pathway` to apply.
        hidden_units: sizes of layers between the signal and `z`, for pathways that
            can have them; none in the paper.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(
        self,
        signal_size: int,
        strength: float = 0.5,
        train_kernels: bool = True,
        activation: str = "relu",
        hidden_units: Sequence[int] = (),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.signal_size = signal_size
        self.activation = keras.activations.get(activation)
        self.hidden_units = tuple(hidden_units)
        self.initial_strength = strength
        self.train_kernels = train_kernels

    def build(self, activity_shape: tuple[int, ...]) -> None:
        """Makes the weights for activities of `activity_shape`, without batch axes."""
        self.activity_shape = tuple(activity_shape)
        self.build_pathway(self.activity_shape)
        self.strength = self.add_weight(
            name="strength",
            shape=(),
            initializer=keras.initializers.Constant(self.initial_strength),
        )
        self.built = True

    def build_pathway(self, activity_shape: tuple[int, ...]) -> None:
        """Makes the pathway's own weights."""

    def pathway(self, signal: tf.Tensor) -> tf.Tensor:
        """Returns the feedback activity `z [..., batch, *activity_shape]`."""
        raise TypeError(f"{type(self).__name__} does not define pathway(signal)")

    def call(self, activity: tf.Tensor, signal: tf.Tensor) -> tf.Tensor:
        """Returns the post-feedback activity, shaped like `activity`."""
        return activity + self.strength * (self.pathway(signal) - activity)

    @property
    def pathway_weights(self) -> list[keras.Variable]:
        """The meta-learned weights besides `beta`."""
        return [w for w in self.trainable_weights if w is not self.strength]
