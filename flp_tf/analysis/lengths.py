"""Lengths: errors after lifetimes that are longer than those of meta-training (section 8.2)."""

import dataclasses
from pathlib import Path

import numpy as np

from flp_tf.analysis import figures
from flp_tf.analysis.base import ANALYSES, with_options
from flp_tf.analysis.readout import errors_after_lifetime
from flp_tf.analysis.result import Baseline, Curve, Result, save
from flp_tf.analysis.series import in_series
from flp_tf.errors import InputError
from flp_tf.registry import option
from flp_tf.runs.run import Run

NAME = "lengths"
PANEL = "after the lifetime"


@dataclasses.dataclass(frozen=True)
class LengthsOptions:
    """Options of the lengths."""

    scales: tuple[int, ...] = option((1, 2, 4, 10), "Lengths of lifetimes, in those of the run's task.", least=1)


@ANALYSES.register(NAME)
@with_options(LengthsOptions)
def analyze(
    runs: list[Run], output: Path, *, lifetimes: int, seed: int, scales: tuple[int, ...] = LengthsOptions.scales
) -> Result:
    """Error after lifetimes of 1, 2, 4, 10 times the length of those of the run (paper, section 8.2).

    Args:
        runs: such as one that was meta-trained with `--lifetimes`, and one without.
        output: folder of the results.
        lifetimes: unseen lifetimes of each network and length.
        seed: of the lifetimes.
        scales: the lengths, in lifetimes of `--lifetime` inner steps.

    Raises:
        InputError: if lifetimes of the task cannot have one of these lengths, or there is none.
    """
    if not scales:
        raise InputError("--scales= names no length; legal are one or more whole numbers, such as 1,2,4,10")
    chosen = sorted(set(scales))
    curves = []
    for series in in_series(runs, NAME):
        of_length = [series._replace(runs=tuple(longer(run, scale) for run in series.runs)) for scale in chosen]
        parts = [errors_after_lifetime(one, lifetimes=lifetimes, seed=seed) for one in of_length]
        errors = np.stack(parts, -1)
        shortest = Baseline(f"scale {chosen[0]}", errors[:, :1])
        curves.append(Curve(series, "error", series.task.unit, PANEL, chosen, errors, shortest))
    figure = figures.points(curves, "length of the lifetime, in that of the run", [PANEL])
    return save(NAME, output, curves, figure, "scale", "tested")


def longer(run: Run, scale: int) -> Run:
    """Returns a run with lifetimes that are `scale` times as long.

    Raises:
        InputError: if its task cannot have such lifetimes.
    """
    try:
        return run._replace(task=run.task.with_lifetime(run.task.steps * scale))
    except InputError as error:
        raise InputError(f"--scales={scale} is not possible: {error}") from None
