"""What dense and convolutional plastic layers share."""

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from flp_tf import plasticity
from flp_tf.feedback import Feedback

GRANULARITIES = ("per_synapse", "per_neuron", "per_layer")


class PlasticLayer(keras.layers.Layer):
    """A layer whose kernel changes within a lifetime (paper, section 3).

    It follows the RNN-cell contract. `get_initial_state` hands out fast weights
    made from the slow ones, `call(inputs, state)` is the layer's activity under
    them, `update(state, pre, post)` returns new ones. No variable is assigned, so
    gradients flow from the end of a lifetime to every slow weight.

    The fast weights are one matrix `[..., in, out]`; the leading axes, if any, are
    a meta-batch of lifetimes and go through every method here. Slow weights are the
    kernel `W` and bias `b` (never plastic), the plasticity `a`, with
    `alpha = plasticity_scale * a`, and those of the feedback pathway.

    Args:
        activation: name of the activation, or a function.
        rule: a name in `plasticity.RULES`, or a function of the same signature.
        granularity: whether `alpha` has an entry per synapse, per (postsynaptic)
            neuron or per layer.
        plasticity_scale: constant factor of `alpha`. Updates sum products of
            activities over a batch, so `alpha` itself is tiny; the scale lets `a`
            be of order one and share the other weights' outer rates.
        plasticity_init: initial value of `a`.
        train_plasticity: False keeps `a` at its initial value (OML).
        feedback: the `Feedback` pathway to this layer; None for a layer without.
        kernel_initializer: of the slow kernel.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: if `rule` or `granularity` is unknown.
    """

    def __init__(
        self,
        activation: str | Callable = "relu",
        rule: str | Callable = "oja",
        granularity: str = "per_synapse",
        plasticity_scale: float = 1.0,
        plasticity_init: float = 0.0,
        train_plasticity: bool = True,
        feedback: Feedback | None = None,
        kernel_initializer: str = "he_normal",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if granularity not in GRANULARITIES:
            raise ValueError(f"--granularity={granularity} is unknown; legal values: {', '.join(GRANULARITIES)}")
        self.activation = keras.activations.get(activation)
        self.rule = rule if callable(rule) else plasticity.RULES[rule]
        self.granularity = granularity
        self.plasticity_scale = plasticity_scale
        self.plasticity_init = plasticity_init
        self.train_plasticity = train_plasticity
        self.feedback = feedback
        self.kernel_initializer = kernel_initializer

    def build_weights(self, kernel_shape: tuple[int, ...], activity_shape: tuple[int, ...]) -> None:
        """Makes all slow weights.

        Args:
            kernel_shape: of the slow kernel; its last axis is the neurons, the
                product of the others the synapses of one neuron.
            activity_shape: of the layer's activity, without batch axes.
        """
        out = kernel_shape[-1]
        self.kernel = self.add_weight(name="kernel", shape=kernel_shape, initializer=self.kernel_initializer)
        self.bias = self.add_weight(name="bias", shape=(out,), initializer="zeros")
        self.fan_in = math.prod(kernel_shape[:-1])
        shapes = {"per_synapse": (self.fan_in, out), "per_neuron": (1, out), "per_layer": (1, 1)}
        self.plasticity = self.add_weight(
            name="plasticity",
            shape=shapes[self.granularity],
            initializer=keras.initializers.Constant(self.plasticity_init),
            trainable=self.train_plasticity,
        )
        if self.feedback is not None:
            self.feedback.build(activity_shape)
        self.activity_shape = tuple(activity_shape)
        self.built = True

    def get_initial_state(self, batch_size: int | None = None) -> tf.Tensor:
        """Returns the fast weights at birth, a copy of the slow ones.

        Args:
            batch_size: number of lifetimes side by side; None for one lifetime
                without a leading axis.

        Returns:
            Fast weights `[in, out]` or `[batch_size, in, out]`.
        """
        kernel = tf.reshape(tf.convert_to_tensor(self.kernel.value), [self.fan_in, -1])
        if batch_size is None:
            return kernel
        return tf.broadcast_to(kernel, [batch_size, *kernel.shape])

    def presynaptic(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns `inputs` as rows of synapses `[..., samples, in]`."""
        return inputs

    def postsynaptic(self, activity: tf.Tensor) -> tf.Tensor:
        """Returns `activity` as rows of neurons `[..., samples, out]`."""
        return activity

    def mix_feedback(self, activity: tf.Tensor, signal: tf.Tensor) -> tf.Tensor:
        """Returns the post-feedback activity `p = (1 - beta) h + beta z`.

        Args:
            activity: `h [..., batch, *activity_shape]`.
            signal: feedback signal `f [..., batch, signal]`.
        """
        if self.feedback is None:
            return activity
        return self.feedback(activity, signal)

    def direction(self, state: tf.Tensor, pre: tf.Tensor, post: tf.Tensor) -> tf.Tensor:
        """Returns in which direction the rule moves the fast weights.

        Args:
            state: fast weights `[..., in, out]`.
            pre: presynaptic activity, shaped like the layer's inputs.
            post: postsynaptic activity, shaped like the layer's activity.
        """
        return self.rule(state, self.presynaptic(pre), self.postsynaptic(post))

    def update(self, state: tf.Tensor, pre: tf.Tensor, post: tf.Tensor) -> tf.Tensor:
        """Returns the fast weights after one local update, `W + alpha * rule`; see `direction`."""
        return self.step(state, self.direction(state, pre, post))

    def step(self, state: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        """Returns `state + alpha * direction`, the only way fast weights change; `-direction` takes it back."""
        return state + self.alpha * direction

    @property
    def alpha(self) -> tf.Tensor:
        """The plasticity in the units of the update, broadcastable to `[in, out]`."""
        return self.plasticity_scale * self.plasticity.value

    def parameter_groups(self) -> dict[str, list[keras.Variable]]:
        """The meta-learned weights by group: slow, feedback, plasticity, strength."""
        groups = {
            "slow": [self.kernel, self.bias],
            "feedback": [],
            "plasticity": [self.plasticity] if self.train_plasticity else [],
            "strength": [],
        }
        if self.feedback is not None:
            groups["feedback"] = self.feedback.pathway_weights
            groups["strength"] = [self.feedback.strength]
        return groups
