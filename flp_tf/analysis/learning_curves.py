"""Learning curves: what is learned, and what is kept (paper, appendix C)."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from flp_tf.analysis import figures
from flp_tf.analysis.base import ANALYSES
from flp_tf.analysis.result import Curve, Result, save
from flp_tf.analysis.series import Series, in_series, is_continual, measure, query_outputs
from flp_tf.runs.run import Run
from flp_tf.tasks.base import Episode

NAME = "learning_curves"
PANELS = ("current", "earlier", "all")


@ANALYSES.register(NAME)
def analyze(runs: list[Run], output: Path, *, lifetimes: int, seed: int) -> Result:
    """Query error over the lifetime, every method in one plot (paper, appendix C).

    After each inner step the network is tested on unseen examples: of the sine (or
    class) that it is learning, of all earlier ones in a continual lifetime, and
    of all sines of the lifetime, whether learned yet or not.

    Args:
        runs: continual and i.i.d. runs; i.i.d. runs appear only in the third panel.
        output: folder of the results.
        lifetimes: unseen lifetimes of each network.
        seed: of the lifetimes.
    """
    curves = []
    for series in in_series(runs, NAME):
        errors = measure(series, concept_errors, lifetimes=lifetimes, seed=seed)
        curves += _curves(series, errors)
    panels = sorted({curve.panel for curve in curves}, key=lambda panel: PANELS.index(panel.split()[0]))
    figure = figures.lines(curves, "inner steps", panels)
    return save(NAME, output, curves, figure, "inner_step", "tested_on")


def concept_errors(run: Run, episode: Episode) -> tf.Tensor:
    """Returns the error of every sine, or class, before the first and after every inner step.

    Returns:
        `[lifetimes, steps + 1, concepts]`, in the task's unit.
    """
    outputs = query_outputs(run.learner, episode)
    errors = run.task.concept_errors(outputs, tf.broadcast_to(episode.query_y, outputs.shape))
    return tf.einsum("tlc->ltc", errors)


def _curves(series: Series, errors: np.ndarray) -> list[Curve]:
    task = series.task
    everything = np.arange(errors.shape[1])
    curves = [Curve(series, "error", task.unit, f"all {plural(task.concept)}", everything, np.mean(errors, -1))]
    if is_continual(series.config) and task.num_concepts > 1:
        length = task.steps // task.num_concepts
        at_work = np.maximum(everything - 1, 0) // length
        current = errors[:, everything, at_work]
        later = everything[length + 1 :]
        earlier = np.stack([np.mean(errors[:, t, : at_work[t]], -1) for t in later], -1)
        curves.append(Curve(series, "error", task.unit, f"current {task.concept}", everything, current))
        curves.append(Curve(series, "error", task.unit, f"earlier {plural(task.concept)}", later, earlier))
    return curves


def plural(concept: str) -> str:
    """Returns "sines" or "classes"."""
    return concept + ("es" if concept.endswith("s") else "s")
