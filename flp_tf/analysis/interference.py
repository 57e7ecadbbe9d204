"""Interference: how much learning a new sine changes what was learned (Fig. 2B)."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from flp_tf.analysis import figures
from flp_tf.analysis.base import ANALYSES
from flp_tf.analysis.learning_curves import plural
from flp_tf.analysis.result import Curve, Result, save
from flp_tf.analysis.series import in_series, measure, query_outputs, require_continual
from flp_tf.runs.run import Run
from flp_tf.tasks.base import Episode

NAME = "interference"


@ANALYSES.register(NAME)
def analyze(runs: list[Run], output: Path, *, lifetimes: int, seed: int) -> Result:
    """Mean squared change of the outputs on earlier sines with each new one (Fig. 2B).

    With `f_k` the network after its first k sines, the interference of sine k + 1 is
    the mean of `(f_{k+1}(x) - f_k(x))^2` over the query examples x of sines 1 to k.

    Args:
        runs: continual runs; in the paper, of flp and gradient.
        output: folder of the results.
        lifetimes: unseen lifetimes of each network.
        seed: of the lifetimes.

    Raises:
        InputError: if a run is i.i.d., or has only one sine per lifetime.
    """
    require_continual(runs, NAME)
    curves, concept = [], runs[0].task.concept
    for series in in_series(runs, NAME):
        changes = measure(series, changes_of_earlier_outputs, lifetimes=lifetimes, seed=seed)
        met = np.arange(2, changes.shape[1] + 2)
        quantity = f"mean squared change of outputs on earlier {plural(concept)}"
        curves.append(Curve(series, quantity, "squared output", f"earlier {plural(concept)}", met, changes))
    figure = figures.lines(curves, f"{plural(concept)} met, the new one included", [curves[0].panel])
    return save(NAME, output, curves, figure, f"{plural(concept)}_met", "tested_on")


def changes_of_earlier_outputs(run: Run, episode: Episode) -> tf.Tensor:
    """Returns the mean squared change with each new sine after the first.

    Returns:
        `[lifetimes, concepts - 1]`.
    """
    concepts = run.task.num_concepts
    outputs = query_outputs(run.learner, episode)
    # [concepts + 1, lifetimes, examples, outputs]: before the first sine, and after each.
    borders = outputs[:: run.task.steps // concepts]
    changes = tf.reduce_mean(tf.math.squared_difference(borders[2:], borders[1:-1]), -1)
    by_concept = tf.reduce_mean(tf.reshape(changes, [*changes.shape[:2], concepts, -1]), -1)
    # Row k is the change with sine k + 2; the k + 1 sines before it count.
    earlier = [tf.reduce_mean(by_concept[k, :, : k + 1], -1) for k in range(concepts - 1)]
    return tf.stack(earlier, -1)
