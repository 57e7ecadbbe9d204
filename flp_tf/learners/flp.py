"""FLP: feedback connections and local plasticity (paper, section 4), and its two special cases."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.layers.base import GRANULARITIES
from flp_tf.learners.base import Learner, LearnerOptions, network_of
from flp_tf.networks import Network, State
from flp_tf.registry import Choice, option

SIGNALS = ("error", "target")
PRESYNAPTIC = ("pre_feedback", "post_feedback")


@dataclasses.dataclass(frozen=True)
class FlpOptions(LearnerOptions):
    """Options of FLP."""

    granularity: str = option("per_synapse", "Plasticity per synapse, neuron or layer.", legal=GRANULARITIES)
    plasticity_scale: float = option(1e-3, "alpha = plasticity_scale * a, of which a is meta-learned.")
    hidden_plasticity_factor: float = option(1.0, "Further factor of alpha in hidden layers.")
    plasticity_init: float = option(0.0, "Initial a of hidden layers.")
    output_plasticity_init: float = option(0.0, "Initial a of the output layer.")
    feedback_signal: str = option("error", "What is fed back: the error or the target.", legal=SIGNALS)
    clamp_output: bool = option(False, "Whether the output's post-feedback activity is the target.")
    presynaptic: str = option("pre_feedback", "Presynaptic activity in updates.", legal=PRESYNAPTIC)


@dataclasses.dataclass(frozen=True)
class FeatureReuseOptions(FlpOptions):
    """Options of FLP in the output layer alone."""

    num_plastic_layers: int = option(1, "Plastic layers: the output layer alone.", least=1, most=1)


class FeedbackLearner(Learner):
    """One inner step of FLP (paper, section 4).

    Forward: `h_l = act(h_{l-1} W_l + b_l)`. Feedback: `p_l = (1 - beta_l) h_l +
    beta_l z_l`, with `z_l` from the signal. Update: `W_l += alpha_l * rule(W_l,
    h_{l-1}, p_l)`.

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
        cls, task: Any, options: FlpOptions, parts: Mapping[str, Choice], dtype: str = "float32"
    ) -> "FeedbackLearner":
        """Returns the learner of a configuration; see `Learner.from_options`."""

        def plastic_options(is_output: bool) -> dict[str, Any]:
            clamped = is_output and options.clamp_output
            feedback = None if clamped else parts["feedback"](signal_size=task.num_outputs, dtype=dtype)
            return {
                "rule": parts["rule"](dtype=dtype),
                "initial": parts["initial"](dtype=dtype),
                "feedback": feedback,
                "granularity": options.granularity,
                "plasticity_scale": options.plasticity_scale * (1 if is_output else options.hidden_plasticity_factor),
                "plasticity_init": options.output_plasticity_init if is_output else options.plasticity_init,
            }

        network = network_of(task, options, plastic_options, dtype)
        return cls(network, options.feedback_signal, options.clamp_output, options.presynaptic)

    def learn(self, state: State, features: tf.Tensor, y: tf.Tensor) -> State:
        """Returns the state after one local update of every plastic layer; see `Learner.learn`."""
        layers = self.network.head
        y = tf.convert_to_tensor(y, self.network.compute_dtype)
        pre = self.network.activities(state, features)
        signal = y - pre[-1] if self.signal == "error" else y
        post: dict[str, tf.Tensor] = {}
        # From the top down, so that a pathway can use the activities above its layer.
        for layer, activity in zip(reversed(layers), reversed(pre)):
            clamped = self.clamp_output and layer is layers[-1]
            post[layer.name] = y if clamped else layer.mix_feedback(activity, signal, dict(post), state[layer.name])
        if self.presynaptic == "post_feedback":
            pre = [pre[0], *reversed(post.values())]
        return {
            layer.name: layer.update(state[layer.name], before, post[layer.name], signal)
            for layer, before in zip(layers, pre)
        }


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
