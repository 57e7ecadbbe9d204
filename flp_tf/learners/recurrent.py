"""FLP without two phases: feedforward and feedback drive the activities at the same time."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.learners.flp import FeedbackLearner, HiddenOptions, Observed
from flp_tf.networks import Network, State
from flp_tf.registry import check, option

STARTS = ("silence", "forward")


@dataclasses.dataclass(frozen=True)
class RecurrentOptions(HiddenOptions):
    """Options of recurrent FLP."""

    sub_steps: int = option(8, "Sub-steps of an inner step, in which the activities settle.", least=1, most=100)
    activity_start: str = option(
        "silence", "Activities before the first sub-step: zero, or those of a forward pass.", legal=STARTS
    )


class RecurrentLearner(FeedbackLearner):
    """Activities are a state that feedforward and feedback drive at once (paper, section 8.3).

        h_l <- (1 - beta_l) act(h_{l-1} W_l + b_l) + beta_l z_l

    for all plastic layers at the same time, `K` times. `z_l` is the feedback pathway's
    answer to the signal, which is taken from the output of the sub-step before, and to
    the activities above of the sub-step before. The local rule sees what the network
    settles to, before and behind each synapse. Without a target there is no signal, so
    that `predict` is the forward pass, to which the same network settles with `beta = 0`.

    From a forward pass, one sub-step is FLP with `presynaptic="post_feedback"`.

    Args:
        network: trunk and plastic head.
        signal: what is fed back, see `FeedbackLearner`.
        clamp_output: whether the output's activity is the target throughout; an error is
            that of the output before it is clamped.
        sub_steps: `K`.
        activity_start: activities before the first sub-step, one of `STARTS`.

    Raises:
        InputError: if a setting is unknown, or the sub-steps are too few for the features to reach the output.
    """

    Options = RecurrentOptions
    label = "recurrent FLP"

    def __init__(
        self,
        network: Network,
        signal: str = "error",
        clamp_output: bool = False,
        sub_steps: int = RecurrentOptions.sub_steps,
        activity_start: str = "silence",
    ):
        super().__init__(network, signal, clamp_output)
        check(RecurrentOptions(sub_steps=sub_steps, activity_start=activity_start))
        self.sub_steps = sub_steps
        self.activity_start = activity_start
        if sub_steps < self.least_sub_steps:
            raise InputError(
                f"--sub_steps={sub_steps} are too few for --num_plastic_layers={network.depth}; "
                f"legal values are {network.depth} or more, or any with --activity_start=forward"
            )

    @property
    def least_sub_steps(self) -> int:
        """Sub-steps in which the features reach the output."""
        return self.network.depth if self.activity_start == "silence" else 1

    @classmethod
    def arguments_of(cls, options: Any) -> dict[str, Any]:
        """Returns the constructor's arguments beside the network."""
        names = {"signal": "feedback_signal"} | {n: n for n in ("clamp_output", "sub_steps", "activity_start")}
        return {name: getattr(options, flag) for name, flag in names.items()}

    def observe(self, state: State, features: tf.Tensor, y: tf.Tensor) -> Observed:
        """Returns what the local rules see: the activities after the last sub-step, and its signal."""
        return next(itertools.islice(self.settling(state, features, y), self.sub_steps - 1, None))

    def settling(self, state: State, features: tf.Tensor, y: tf.Tensor) -> Iterator[Observed]:
        """Yields the activities after each sub-step, and its signal, without an end; see `observe`."""
        layers = self.network.head
        activities = self.network.activities(state, features)[1:]
        if self.activity_start == "silence":
            activities = [tf.zeros_like(activity) for activity in activities]
        outputs = activities[-1]
        while True:
            signal = self.signal_of(y, outputs)
            above = {layer.name: activity for layer, activity in zip(layers, activities)}
            settled = []
            for layer, before in zip(layers, [features, *activities]):
                del above[layer.name]  # What is left is above it.
                outputs = layer(before, state[layer.name])
                settled.append(self.post_of(layer, outputs, y, signal, dict(above), state))
            activities = settled
            outputs = outputs if self.clamp_output else activities[-1]
            yield Observed([features, *activities], activities, signal)
