"""FLP: feedback connections and local plasticity (paper, section 4), and its two special cases."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from flp_tf.component import GRANULARITIES
from flp_tf.errors import InputError
from flp_tf.feedback.base import Activities
from flp_tf.layers import PlasticLayer
from flp_tf.learners.base import Learner, LearnerOptions, network_of
from flp_tf.networks import Network, State
from flp_tf.registry import Choice, option

SIGNALS = ("error", "target")
PRESYNAPTIC = ("pre_feedback", "post_feedback")


@dataclasses.dataclass(frozen=True)
class LocalOptions(LearnerOptions):
    """Options of all methods with feedback and local plasticity."""

    granularity: str = option("per_synapse", "Plasticity per synapse, neuron or layer.", legal=GRANULARITIES)
    plasticity_scale: float = option(1e-3, "alpha = plasticity_scale * a, of which a is meta-learned.")
    hidden_plasticity_factor: float = option(1.0, "Further factor of alpha in hidden layers.")
    plasticity_init: float = option(0.0, "Initial a of hidden layers.")
    output_plasticity_init: float = option(0.0, "Initial a of the output layer.")
    feedback_signal: str = option("error", "What is fed back: the error or the target.", legal=SIGNALS)
    clamp_output: bool = option(False, "Whether the output's post-feedback activity is the target.")


@dataclasses.dataclass(frozen=True)
class TwoPhaseOptions(LocalOptions):
    """Options of the methods that have a forward pass first and feedback then."""

    presynaptic: str = option("pre_feedback", "Presynaptic activity in updates.", legal=PRESYNAPTIC)


@dataclasses.dataclass(frozen=True)
class HiddenOptions(LocalOptions):
    """Options of the methods that may have plastic layers below the output."""

    hidden_feedback: bool = option(
        True, "Whether plastic layers below the output have feedback; without it, their activity is the forward one."
    )


@dataclasses.dataclass(frozen=True)
class FlpOptions(HiddenOptions, TwoPhaseOptions):
    """Options of FLP."""


@dataclasses.dataclass(frozen=True)
class FeatureReuseOptions(TwoPhaseOptions):
    """Options of FLP in the output layer alone."""

    num_plastic_layers: int = option(1, "Plastic layers: the output layer alone.", least=1, most=1)


class Observed(NamedTuple):
    """What the local rules of an inner step see.

    Attributes:
        pre: presynaptic activity of every plastic layer, from the first up; more of them are ignored.
        post: their post-feedback activities.
        signal: the feedback signal.
    """

    pre: Sequence[tf.Tensor]
    post: Sequence[tf.Tensor]
    signal: tf.Tensor


class FeedbackLearner(Learner):
    """One inner step of FLP (paper, section 4).

    Forward: `h_l = act(h_{l-1} W_l + b_l)`. Feedback: `p_l = (1 - beta_l) h_l +
    beta_l z_l`, with `z_l` from the signal; `p_l = h_l` in a layer without a pathway.
    Update: `W_l += alpha_l * rule(W_l, h_{l-1}, p_l)`.

    Args:
        network: trunk and plastic head.
        signal: what is fed back: `"error"`, `y - yhat` (the paper's for
            regression), or `"target"`, `y` (for classification).
        clamp_output: whether the output's post-feedback activity is the target
            itself (classification).
        presynaptic: whether updates see the presynaptic activity before feedback,
            `h_{l-1}` (the paper), or after it, `p_{l-1}`.

    Raises:
        InputError: if `signal` or `presynaptic` is unknown.
    """

    Options = FlpOptions
    uses = ("rule", "feedback", "initial")
    trains = ("slow", "plasticity", "strength")
    label = "FLP"

    def __init__(
        self,
        network: Network,
        signal: str = "error",
        clamp_output: bool = False,
        presynaptic: str = "pre_feedback",
    ):
        super().__init__(network)
        if signal not in SIGNALS:
            raise InputError(f"--feedback_signal={signal} is unknown; legal values: {', '.join(SIGNALS)}")
        if presynaptic not in PRESYNAPTIC:
            raise InputError(f"--presynaptic={presynaptic} is unknown; legal values: {', '.join(PRESYNAPTIC)}")
        self.signal = signal
        self.clamp_output = clamp_output
        self.presynaptic = presynaptic

    @classmethod
    def from_options(
        cls, task: Any, options: LocalOptions, parts: Mapping[str, Choice], dtype: str = "float32"
    ) -> "FeedbackLearner":
        """Returns the learner of a configuration; see `Learner.from_options`."""

        def plastic_options(is_output: bool) -> dict[str, Any]:
            has_feedback = not options.clamp_output if is_output else options.hidden_feedback
            return {
                "rule": parts["rule"](dtype=dtype),
                "initial": parts["initial"](dtype=dtype),
                "feedback": parts["feedback"](signal_size=task.num_outputs, dtype=dtype) if has_feedback else None,
                "granularity": options.granularity,
                "plasticity_scale": options.plasticity_scale * (1 if is_output else options.hidden_plasticity_factor),
                "plasticity_init": options.output_plasticity_init if is_output else options.plasticity_init,
            }

        network = network_of(task, options, plastic_options, dtype)
        return cls(network, **cls.arguments_of(options))

    @classmethod
    def arguments_of(cls, options: Any) -> dict[str, Any]:
        """Returns the constructor's arguments beside the network."""
        return {
            "signal": options.feedback_signal,
            "clamp_output": options.clamp_output,
            "presynaptic": options.presynaptic,
        }

    def learn(self, state: State, features: tf.Tensor, y: tf.Tensor) -> State:
        """Returns the state after one local update of every plastic layer; see `Learner.learn`."""
        seen = self.observe(state, features, tf.convert_to_tensor(y, self.network.compute_dtype))
        return {
            layer.name: layer.update(state[layer.name], pre, post, seen.signal)
            for layer, pre, post in zip(self.network.head, seen.pre, seen.post)
        }

    def observe(self, state: State, features: tf.Tensor, y: tf.Tensor) -> Observed:
        """Returns what the local rules see; `y` is a tensor of the network's type."""
        layers = self.network.head
        pre = self.network.activities(state, features)
        signal = self.signal_of(y, pre[-1])
        post: dict[str, tf.Tensor] = {}
        # From the top down, so that a pathway can use the activities above its layer.
        for layer, activity in zip(reversed(layers), reversed(pre)):
            post[layer.name] = self.post_of(layer, activity, y, signal, dict(post), state)
        after = list(reversed(post.values()))
        return Observed([pre[0], *after] if self.presynaptic == "post_feedback" else pre, after, signal)

    def signal_of(self, y: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """Returns the feedback signal: the error, or the target."""
        return y - outputs if self.signal == "error" else y

    def post_of(
        self,
        layer: PlasticLayer,
        activity: tf.Tensor,
        y: tf.Tensor,
        signal: tf.Tensor,
        above: Activities,
        state: State,
    ) -> tf.Tensor:
        """Returns the post-feedback activity of a layer: the target, if it is a clamped output."""
        if self.clamp_output and layer is self.network.head[-1]:
            return y
        return layer.mix_feedback(activity, signal, above, state[layer.name])


class FeatureReuse(FeedbackLearner):
    """FLP of which the output layer alone is plastic (paper, section 6)."""

    Options = FeatureReuseOptions
    label = "feature reuse"


class DirectFeedbackAlignment(FeedbackLearner):
    """FLP whose feedback kernels stay as they were drawn; biases and beta are meta-learned."""

    label = "DFA"

    @classmethod
    def from_options(
        cls, task: Any, options: FlpOptions, parts: Mapping[str, Choice], dtype: str = "float32"
    ) -> "DirectFeedbackAlignment":
        """Returns the learner of a configuration; see `Learner.from_options`."""
        learner = super().from_options(task, options, parts, dtype)
        for layer in learner.network.head:
            if layer.feedback is not None:
                layer.feedback.fix_kernels()
        return learner
