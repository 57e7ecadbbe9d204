"""Direct feedback whose kernel learns, too."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from flp_tf import seeds as lifetime_seeds
from flp_tf.feedback.base import Activities, flat
from flp_tf.feedback.direct import DirectFeedback, DirectOptions
from flp_tf.plasticity import RULES
from flp_tf.registry import option


@dataclasses.dataclass(frozen=True)
class PlasticOptions(DirectOptions):
    """Options of the plastic pathway."""

    rule: str = option("oja", "Local rule of the feedback kernel, with that rule's own defaults.", legal=RULES)
    plasticity_scale: float = option(1e-3, "alpha of the feedback kernel is this times a meta-learned a.")
    plasticity_init: float = option(0.0, "Initial a of the feedback kernel.")


class PlasticFeedback(DirectFeedback):
    """`z = act(f B + c)` with a fast `B` that follows a local rule in the lifetime (paper, section 8.1).

        B += alpha_B * rule(B, f, p)

    Presynaptic is the signal `f`, postsynaptic the layer's post-feedback activity `p`.
    `alpha_B` has an entry per synapse. Weights of the rule, such as coefficients, are meta-learned
    in the outer group `feedback`. Where the pathway has hidden layers, the last kernel
    is the plastic one, and presynaptic is the last hidden activity.

    Args:
        signal_size: number of entries of the feedback signal.
        rule: name in `RULES` of the kernel's rule.
        plasticity_scale: constant factor of `alpha_B = plasticity_scale * a`.
        plasticity_init: initial value of `a`.
        **kwargs: of `DirectFeedback`.
    """

    Options = PlasticOptions

    def __init__(
        self,
        signal_size: int,
        rule: str = PlasticOptions.rule,
        plasticity_scale: float = PlasticOptions.plasticity_scale,
        plasticity_init: float = PlasticOptions.plasticity_init,
        **kwargs: Any,
    ):
        super().__init__(signal_size, **kwargs)
        # By this name its weights are of the group `feedback`, whose rates every run of this pathway has.
        self.rule_name, self.kernel_rule = rule, RULES[rule](dtype=self.dtype_policy)
        self.plasticity_scale = plasticity_scale
        self.plasticity_init = plasticity_init

    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"plasticity_scale": self.plasticity_scale, "plasticity_init": self.plasticity_init}
        return {**super().arguments(), "rule": self.rule_name, **own}

    def build_pathway(self, activity_shape: tuple[int, ...]) -> None:
        """Makes the direct pathway, the plasticity of its last kernel, and the rule's weights."""
        super().build_pathway(activity_shape)
        shape = self.kernels[-1].shape
        self.plasticity = self.add_weight(
            name="plasticity", shape=shape, initializer=keras.initializers.Constant(self.plasticity_init)
        )
        self.kernel_rule.build(shape)

    def initial_state(self, seeds: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Returns the fast feedback kernel, `{"kernel": [..., signal, out]}`."""
        return {"kernel": lifetime_seeds.once_each(tf.convert_to_tensor(self.kernels[-1].value), seeds)}

    def drive(self, signal: tf.Tensor, above: Activities, state: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns `f B + c` with the fast `B`; see `DirectFeedback.drive`."""
        del above
        return tf.matmul(self.hidden(signal), state["kernel"]) + self.biases[-1]

    def update(self, state: Mapping[str, tf.Tensor], signal: tf.Tensor, post: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the state after one local update of the feedback kernel; see `Pathway.update`."""
        direction = self.kernel_rule(state["kernel"], self.hidden(signal), flat(post, self.activity_shape))
        return {"kernel": state["kernel"] + self.plasticity_scale * self.plasticity.value * direction}
