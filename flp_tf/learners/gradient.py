"""The gradient-based baselines: meta-learned rates per synapse, and OML."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from flp_tf.component import GRANULARITIES
from flp_tf.errors import InputError
from flp_tf.initial import FixedInitial, RedrawnInitial
from flp_tf.learners.base import Learner, LearnerOptions, network_of
from flp_tf.networks import Network, State
from flp_tf.registry import Choice, option

InnerLoss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class OmlOptions(LearnerOptions):
    """Options of OML."""

    second_order: bool = option(True, "Whether meta-gradients flow through the inner gradient.")
    inner_rate: float = option(0.003, "Rate of oml, initial rate of gradient.", least=0)
    plastic_biases: bool = option(False, "Whether biases of plastic layers change in a lifetime, too, as published.")
    redraw_output: bool = option(
        False,
        "Whether every lifetime draws the output layer's initial weights anew. The published code does so for Omniglot "
        "in meta-training only.",
    )


@dataclasses.dataclass(frozen=True)
class GradientOptions(OmlOptions):
    """Options of gradient descent with meta-learned rates."""

    granularity: str = option("per_synapse", "Plasticity per synapse, neuron or layer.", legal=GRANULARITIES)
    inner_rate_scale: float = option(
        0.0,
        "eta = inner_rate_scale * a, of which a is meta-learned; 0 takes inner_rate. With --inner_rate=0, rates start "
        "at 0, and it says how fast they are learned.",
        least=0,
    )


class GradientLearner(Learner):
    """Gradient descent on the plastic layers: `W_l -= eta_l * dLoss/dW_l` (paper, section 6).

    `eta` is the layers' plasticity: an entry per synapse and meta-learned for the
    paper's baseline, one fixed number for OML. Where biases are plastic, `b_l -= eta_l' *
    dLoss/db_l` with rates of their own.

    The loss is that of `predict` at the state that `learn` is given. A subclass that keeps more
    in its state, such as a velocity, keeps it beside the layers: `{**state, "velocity": ...}`.

    Args:
        network: trunk and plastic head, without feedback.
        inner_loss: `inner_loss(outputs, y)`, one number per lifetime.
        second_order: whether meta-gradients flow through the inner gradient too.
            The published baseline keeps the first order only.
    """

    Options = GradientOptions
    uses = ("initial",)
    label = "gradient"

    def __init__(self, network: Network, inner_loss: InnerLoss, second_order: bool = True):
        super().__init__(network)
        self.inner_loss = inner_loss
        self.second_order = second_order

    @classmethod
    def plasticity_options(cls, options: Any) -> dict[str, Any]:
        """Returns what of a plastic layer's arguments says how the rates start and are learned.

        Raises:
            InputError: if they start at 0, and nothing says in which units they are learned.
        """
        scale = options.inner_rate_scale or options.inner_rate
        if not scale:
            raise InputError("--inner_rate=0 needs --inner_rate_scale, in whose units rates are learned, such as 0.001")
        return {
            "granularity": options.granularity,
            "plasticity_scale": scale,
            "plasticity_init": options.inner_rate / scale,
        }

    @classmethod
    def from_options(
        cls, task: Any, options: Any, parts: Mapping[str, Choice], dtype: str = "float32"
    ) -> "GradientLearner":
        """Returns the learner of a configuration; see `Learner.from_options`.

        Raises:
            InputError: if an initial distribution is chosen, and no layer is left for it.
        """
        if options.redraw_output and options.num_plastic_layers == 1 and parts["initial"].component is not FixedInitial:
            raise InputError(
                "--initial has no effect with --redraw_output and --num_plastic_layers=1, because the output layer is "
                "the only plastic one; leave out one of them, or add plastic layers"
            )

        def plastic_options(is_output: bool) -> dict[str, Any]:
            redrawn = is_output and options.redraw_output
            return {
                **cls.plasticity_options(options),
                "plastic_bias": options.plastic_biases,
                "initial": RedrawnInitial(dtype=dtype) if redrawn else parts["initial"](dtype=dtype),
            }

        return cls(network_of(task, options, plastic_options, dtype), task.loss, options.second_order)

    def learn(self, state: State, features: tf.Tensor, y: tf.Tensor) -> State:
        """Returns the state after one step of gradient descent; see `Learner.learn`."""
        gradients = inner_gradients(self, self.inner_loss, state, features, y)
        if not self.second_order:
            gradients = tf.nest.map_structure(tf.stop_gradient, gradients)
        new_state = dict(state)
        for layer in self.network.head:
            before, slope = state[layer.name], gradients[layer.name]
            moved = {part: before[part] - rate * slope[part] for part, rate in layer.rates.items()}
            new_state[layer.name] = {**before, **moved}
        return new_state


class OnlineMetaLearning(GradientLearner):
    """OML: gradient descent with one fixed rate (paper, section 6)."""

    Options = OmlOptions
    trains = ("slow",)
    label = "OML"

    @classmethod
    def plasticity_options(cls, options: Any) -> dict[str, Any]:
        """Returns what of a plastic layer's arguments says that the rate is fixed."""
        return {
            "granularity": "per_layer",
            "plasticity_scale": options.inner_rate,
            "plasticity_init": 1.0,
            "train_plasticity": False,
        }


def inner_gradients(
    learner: Learner, inner_loss: InnerLoss, state: State, features: tf.Tensor, y: tf.Tensor
) -> dict[str, dict[str, tf.Tensor]]:
    """Returns the gradient of one inner step's loss by the fast weights of every plastic layer.

    By layer and part of its state: `"kernel"`, and `"bias"` where it is plastic.

    Args:
        learner: whose `predict` is differentiated.
        inner_loss: `inner_loss(outputs, y)`, one number per lifetime.
        state: of every plastic layer, with kernels `[..., in, out]`.
        features: `encode` of the inner step's examples `[..., batch, features]`.
        y: their targets `[..., batch, outputs]`.
    """
    dtype = learner.network.compute_dtype
    fast = {
        layer.name: {part: tf.convert_to_tensor(state[layer.name][part], dtype) for part in layer.rates}
        for layer in learner.network.head
    }
    with tf.GradientTape() as tape:
        tape.watch(fast)
        watched = {**state, **{name: {**state[name], **parts} for name, parts in fast.items()}}
        outputs = learner.predict(watched, features)
        # Summed over lifetimes: each then has the gradient of its own loss.
        loss = tf.reduce_sum(inner_loss(outputs, tf.convert_to_tensor(y, outputs.dtype)))
    return tape.gradient(loss, fast)
