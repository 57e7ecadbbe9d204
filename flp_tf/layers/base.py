"""What dense and convolutional plastic layers share."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from flp_tf.component import GRANULARITIES, Component, granular_shape
from flp_tf.errors import InputError
from flp_tf.feedback import Pathway
from flp_tf.feedback.base import Activities, Shapes
from flp_tf.initial import INITIALS, Initial
from flp_tf.plasticity import RULES, FunctionRule, Rule
from flp_tf.seeds import fold, once_each

# The feedback pathway draws from other seeds than the initial distribution.
OF_FEEDBACK = 1

# Of one layer: the fast kernel, and what else changes in a lifetime.
LayerState = dict[str, Any]


class PlasticLayer(Component):
    """A layer whose kernel changes within a lifetime (paper, section 4).

    It follows the contract of an RNN cell. `get_initial_state` hands out fast weights
    made from the slow ones, `call(inputs, state)` is the layer's activity under
    them, `update(state, pre, post)` returns new ones. No variable is assigned, so
    gradients flow from the end of a lifetime to every slow weight.

    The state is a dictionary: `"kernel"`, the fast weights `[..., in, out]`, `"bias"` where
    it is plastic, `[..., out]`, and `"feedback"` where the feedback pathway has a state. The
    leading axes, if any, are a meta-batch of lifetimes and go through every method. Slow
    weights are the kernel `W` and bias `b`, the plasticity `a` of either, with `alpha =
    plasticity_scale * a`, and those of rule, feedback pathway and initial distribution.

    Args:
        activation: name of the activation, or a function.
        rule: a `Rule`, a name in `RULES`, or a function `rule(kernel, pre, post)`.
        granularity: whether `alpha` has an entry per synapse, per (postsynaptic)
            neuron or per layer.
        plasticity_scale: constant factor of `alpha`. Updates sum products of
            activities over a batch, so `alpha` itself is tiny; the scale lets `a`
            be of order one and have the same outer rates as the other weights.
        plasticity_init: initial value of `a`.
        train_plasticity: False keeps `a` at its initial value (OML).
        plastic_bias: whether the bias is part of the state, for methods that change it, and
            has a plasticity of its own. Local updates leave it as it is.
        feedback: the `Pathway` to this layer; None for a layer without.
        initial: an `Initial`, or a name in `INITIALS`.
        kernel_initializer: of the slow kernel.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        InputError: if `rule`, `granularity` or `initial` is unknown.
    """

    def __init__(
        self,
        activation: str | Callable = "relu",
        rule: Rule | str | Callable = "oja",
        granularity: str = "per_synapse",
        plasticity_scale: float = 1.0,
        plasticity_init: float = 0.0,
        train_plasticity: bool = True,
        plastic_bias: bool = False,
        feedback: Pathway | None = None,
        initial: Initial | str = "fixed",
        kernel_initializer: str = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if granularity not in GRANULARITIES:
            raise InputError(f"--granularity={granularity} is unknown; legal values: {', '.join(GRANULARITIES)}")
        self.activation = keras.activations.get(activation)
        self.rule = _rule(rule, self.dtype_policy)
        self.rule.check_plasticity(plasticity_init)
        self.granularity = granularity
        self.plasticity_scale = plasticity_scale
        self.plasticity_init = plasticity_init
        self.train_plasticity = train_plasticity
        self.plastic_bias = plastic_bias
        self.feedback = feedback
        self.initial = initial if isinstance(initial, Initial) else INITIALS[initial](dtype=self.dtype_policy)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("rule", "granularity", "plasticity_scale", "plasticity_init", "train_plasticity", "feedback")
        names += ("plastic_bias", "initial", "kernel_initializer")
        activation = keras.activations.serialize(self.activation)
        return {"activation": activation, **{name: getattr(self, name) for name in names}}

    def build_weights(
        self, kernel_shape: tuple[int, ...], activity_shape: tuple[int, ...], above_shapes: Shapes | None
    ) -> None:
        """Makes all slow weights.

        Args:
            kernel_shape: of the slow kernel; its last axis is the neurons, the
                product of the others the synapses of one neuron.
            activity_shape: of the layer's activity, without batch axes.
            above_shapes: the same of the plastic layers above, by name.
        """
        out = kernel_shape[-1]
        self.kernel = self.add_weight(name="kernel", shape=kernel_shape, initializer=self.kernel_initializer)
        self.bias = self.add_weight(name="bias", shape=(out,), initializer="zeros")
        self.fan_in = math.prod(kernel_shape[:-1])
        self.plasticity = self._plasticity("plasticity", granular_shape(self.granularity, (self.fan_in, out)))
        if self.plastic_bias:
            # In a dictionary, so that its path ends with the name of its group.
            shape = granular_shape(self.granularity, (1, out))[1:]
            self.of_bias = {"plasticity": self._plasticity("bias_plasticity", shape)}
        self.activity_shape = tuple(activity_shape)
        parts = [(self.rule, ((self.fan_in, out),)), (self.initial, ((self.fan_in, out),))]
        if self.feedback is not None:
            parts.append((self.feedback, (self.activity_shape, above_shapes)))
        for part, shapes in parts:
            if not part.built:
                part.build(*shapes)
        self.built = True

    def _plasticity(self, name: str, shape: tuple[int, ...]) -> keras.Variable:
        start = keras.initializers.Constant(self.plasticity_init)
        return self.add_weight(name=name, shape=shape, initializer=start, trainable=self.train_plasticity)

    def get_initial_state(self, seeds: tf.Tensor | None = None) -> LayerState:
        """Returns the first state of a lifetime, made from the slow weights.

        Args:
            seeds: one stateless seed per lifetime, int32 `[lifetimes, 2]`; None for one
                lifetime without a leading axis.

        Returns:
            `{"kernel": [in, out] or [lifetimes, in, out]}`, with `"bias"` and `"feedback"` where they are
            part of the state.
        """
        state = {"kernel": self.initial(self._slow_kernel(), seeds)}
        if self.plastic_bias:
            state["bias"] = once_each(tf.convert_to_tensor(self.bias.value), seeds)
        feedback = self.feedback.initial_state(fold(seeds, OF_FEEDBACK)) if self.feedback is not None else {}
        return {**state, "feedback": feedback} if feedback else state

    def bias_in(self, state: LayerState) -> tf.Tensor:
        """Returns the bias of a state, broadcastable to rows of neurons `[..., samples, out]`."""
        return state["bias"][..., None, :] if "bias" in state else self.bias

    def presynaptic(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns `inputs` as rows of synapses `[..., samples, in]`."""
        return inputs

    def postsynaptic(self, activity: tf.Tensor) -> tf.Tensor:
        """Returns `activity` as rows of neurons `[..., samples, out]`."""
        return activity

    def mix_feedback(
        self,
        activity: tf.Tensor,
        signal: tf.Tensor,
        above: Activities | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> tf.Tensor:
        """Returns the post-feedback activity `p = (1 - beta) h + beta z`; `h` in a layer without a pathway.

        Args:
            activity: `h [..., batch, *activity_shape]`.
            signal: feedback signal `f [..., batch, signal]`.
            above: post-feedback activities of the plastic layers above, by name.
            state: the layer's state.
        """
        if self.feedback is None:
            return activity
        return self.feedback(activity, signal, above, (state or {}).get("feedback"))

    def direction(self, state: LayerState, pre: tf.Tensor, post: tf.Tensor) -> tf.Tensor:
        """Returns in which direction the rule moves the fast weights, `[..., in, out]`.

        Args:
            state: the layer's state.
            pre: presynaptic activity, shaped like the layer's inputs.
            post: postsynaptic activity, shaped like the layer's activity.
        """
        pre, post = (tf.convert_to_tensor(part, self.compute_dtype) for part in (pre, post))
        return self.rule(state["kernel"], self.presynaptic(pre), self.postsynaptic(post))

    def update(self, state: LayerState, pre: tf.Tensor, post: tf.Tensor, signal: tf.Tensor | None = None) -> LayerState:
        """Returns the state after one local update, `W + alpha * rule(W, pre, post)`.

        Args:
            state: the layer's state.
            pre: presynaptic activity, shaped like the layer's inputs.
            post: post-feedback activity, shaped like the layer's activity.
            signal: the feedback signal, for a pathway that has a state.
        """
        new_state = {**state, "kernel": state["kernel"] + self.alpha * self.direction(state, pre, post)}
        if "feedback" in state:
            signal, post = (tf.convert_to_tensor(part, self.compute_dtype) for part in (signal, post))
            new_state["feedback"] = self.feedback.update(state["feedback"], signal, post)
        return new_state

    def penalty(self) -> tf.Tensor | float:
        """Returns what the initial distribution adds to the outer loss; see `Initial.penalty`."""
        return self.initial.penalty(self._slow_kernel())

    def bits(self) -> tf.Tensor | None:
        """Returns the information that the initial fast weights hold; see `Initial.bits`."""
        return self.initial.bits(self._slow_kernel())

    def _slow_kernel(self) -> tf.Tensor:
        """Returns the slow kernel as a matrix `[in, out]`."""
        return tf.reshape(tf.convert_to_tensor(self.kernel.value), [self.fan_in, -1])

    @property
    def rates(self) -> dict[str, tf.Tensor]:
        """The plasticity of the kernel, and of the bias where it is plastic, in the units of the update."""
        rates = {"kernel": self.alpha}
        if self.plastic_bias:
            rates["bias"] = self.plasticity_scale * self.of_bias["plasticity"].value
        return rates

    @property
    def alpha(self) -> tf.Tensor:
        """The plasticity in the units of the update, broadcastable to `[in, out]`."""
        return self.plasticity_scale * self.plasticity.value


def _rule(rule: Rule | str | Callable, dtype: Any) -> Rule:
    """Returns the `Rule` layer that an argument means."""
    if isinstance(rule, Rule):
        return rule
    return RULES[rule](dtype=dtype) if isinstance(rule, str) else FunctionRule(rule, dtype=dtype)
