"""Settling: how many sub-steps a recurrent network needs, and what it settles to (section 8.3)."""

import copy
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import tensorflow as tf

from flp_tf import lifetime
from flp_tf.analysis import figures
from flp_tf.analysis.base import ANALYSES, with_options
from flp_tf.analysis.readout import errors_after_lifetime
from flp_tf.analysis.result import Curve, Result, save
from flp_tf.analysis.series import in_series, measure
from flp_tf.analysis.steps import place, places
from flp_tf.errors import InputError
from flp_tf.learners import FeedbackLearner, RecurrentLearner
from flp_tf.registry import option
from flp_tf.runs.run import Run
from flp_tf.tasks.base import Episode

NAME = "settling"
# What is measured in every layer, relative to the activity's own norm.
DISTANCES = ("change in the next sub-step", "distance from the forward pass", "distance from FLP's activity")


@dataclasses.dataclass(frozen=True)
class SettlingOptions:
    """Options of the settling."""

    sub_step_counts: tuple[int, ...] = option(
        (1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
        "Sub-steps K to try; those that are too few for the features to reach the output are left out.",
        least=1,
        most=100,
    )


@ANALYSES.register(NAME)
@with_options(SettlingOptions)
def analyze(
    runs: list[Run],
    output: Path,
    *,
    lifetimes: int,
    seed: int,
    sub_step_counts: tuple[int, ...] = SettlingOptions.sub_step_counts,
) -> Result:
    """Tests a recurrent network with other numbers of sub-steps than in its meta-training.

    The upper row shows the error after a lifetime with `K` sub-steps. The rows below show distances of the
    activity `h` of a plastic layer after `K` sub-steps, in lifetimes with the number of sub-steps of
    meta-training, as the mean over inner steps:

        change in the next sub-step:     |h_{K+1} - h_K| / |h_K|
        distance from the forward pass:  |h_K - u| / |h_K|,  u without feedback
        distance from FLP's activity:    |h_K - p| / |h_K|,  p after a forward pass and feedback, in two phases

    with Frobenius norms over the batch. If the first distance goes to zero, the network settles.

    Args:
        runs: of `--method=recurrent`.
        output: folder of the results.
        lifetimes: unseen lifetimes of each network.
        seed: of the lifetimes.
        sub_step_counts: the values of `K`.

    Raises:
        InputError: if a run is of another method, or all values of `K` are too small.
    """
    for run in runs:
        if not isinstance(run.learner, RecurrentLearner):
            raise InputError(
                f"--analysis={NAME} needs runs of --method=recurrent; --logdir={run.path} is {run.config.method}"
            )
    curves = []
    for series in in_series(runs, NAME):
        counts = counts_for(series.runs[0], sub_step_counts)
        for_count = [series._replace(runs=tuple(with_sub_steps(run, count) for run in series.runs)) for count in counts]
        errors = [errors_after_lifetime(one, lifetimes=lifetimes, seed=seed) for one in for_count]
        curves.append(Curve(series, "error", series.task.unit, place(0), counts, np.stack(errors, -1)))
        found = measure(
            series, lambda run, episode, counts=counts: distances(run, episode, counts), lifetimes=lifetimes, seed=seed
        )
        for quantity in DISTANCES:
            for depth, values in enumerate(reversed(found[quantity])):
                curves.append(Curve(series, quantity, "", place(depth), counts, values))
    figure = figures.lines(curves, "sub-steps", places(curves))
    return save(NAME, output, curves, figure, "sub_steps", "layer")


def counts_for(run: Run, counts: tuple[int, ...]) -> list[int]:
    """Returns the numbers of sub-steps that are large enough for a network.

    Raises:
        InputError: if none is.
    """
    least = run.learner.least_sub_steps
    enough = sorted({count for count in counts if count >= least})
    if not enough:
        raise InputError(f"--sub_step_counts: --logdir={run.path} needs {least} sub-steps or more")
    return enough


def with_sub_steps(run: Run, count: int) -> Run:
    """Returns the run with `count` sub-steps and the same network."""
    learner = copy.copy(run.learner)
    learner.sub_steps = count
    return run._replace(learner=learner)


def distances(run: Run, episode: Episode, counts: list[int]) -> dict[str, list[tf.Tensor]]:
    """Returns `DISTANCES`, for each plastic layer from the input side up, `[lifetimes, counts]`."""
    learner = run.learner

    def trace(t, state, features, y, new_state):
        del t, new_state
        settled = [seen.post for seen in itertools.islice(learner.settling(state, features, y), counts[-1] + 1)]
        forward = learner.network.activities(state, features)[1:]
        in_two_phases = FeedbackLearner.observe(learner, state, features, y).post
        others = [lambda count: settled[count], lambda _: forward, lambda _: in_two_phases]
        return {
            quantity: [
                tf.stack([_relative(other(count)[i], settled[count - 1][i]) for count in counts], -1)
                for i in range(learner.network.depth)
            ]
            for quantity, other in zip(DISTANCES, others)
        }

    traces = lifetime.run(learner, episode, trace=trace).traces
    return tf.nest.map_structure(lambda of_steps: tf.reduce_mean(of_steps, 0), traces)


def _relative(other: tf.Tensor, activity: tf.Tensor) -> tf.Tensor:
    """Returns `|other - activity| / |activity|` by lifetime; 0 where the activity is 0."""
    sizes = [tf.norm(tf.reshape(part, [part.shape[0], -1]), axis=-1) for part in (other - activity, activity)]
    return tf.math.divide_no_nan(*sizes)
