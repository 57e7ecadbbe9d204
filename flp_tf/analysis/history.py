"""History: what runs logged in meta-training, against lifetimes or minutes."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flp_tf.analysis import figures
from flp_tf.analysis.base import ANALYSES, with_options
from flp_tf.analysis.result import Curve, Result, save
from flp_tf.analysis.series import Series, in_series
from flp_tf.analysis.steps import place
from flp_tf.errors import InputError
from flp_tf.registry import option
from flp_tf.runs.run import Run
from flp_tf.runs.summaries import MINUTES, Scalar, read_scalars

NAME = "history"
AXES = ("lifetimes", "minutes")
# Scalars that are errors or losses of the task.
ERRORS = ("validation", "query/error")
# Panel of scalars that do not belong to a layer.
WHOLE = "network"


@dataclasses.dataclass(frozen=True)
class HistoryOptions:
    """Options of the history."""

    scalars: str = option("validation/error", "A TensorBoard scalar, or the first words of several, such as rule.")
    against: str = option("lifetimes", "Lifetimes of meta-training, or the minutes that they took.", legal=AXES)
    marks: tuple[str, ...] = option((), "Vertical lines, each as PLACE:NAME, such as 1920:other code.")


@ANALYSES.register(NAME)
@with_options(HistoryOptions)
def analyze(
    runs: list[Run],
    output: Path,
    *,
    lifetimes: int,
    seed: int,
    scalars: str = HistoryOptions.scalars,
    against: str = HistoryOptions.against,
    marks: Sequence[str] = HistoryOptions.marks,
) -> Result:
    """Scalars of the runs' TensorBoard events over meta-training, such as the validation error.

    `--scalars=rule` shows how the coefficients of a polynomial rule change. `--against=minutes` compares
    estimators of the meta-gradient by their time on this machine. Bands are one standard error
    over networks that differ only in their seed; minutes are the mean of these networks. A scalar of a layer
    has its place in the panel of this layer.

    Args:
        runs: runs whose folders have their events.
        output: folder of the results.
        lifetimes: not used; nothing is tested again.
        seed: not used.
        scalars: a tag, or the beginning of tags up to a slash.
        against: one of `AXES`.
        marks: vertical lines in the figure, `PLACE:NAME`, such as the minutes that another program takes.

    Raises:
        InputError: if a run has no such scalar or did not log its minutes, or if a mark has no place or name.
    """
    del lifetimes, seed
    named = [_mark(text) for text in marks]
    curves = []
    for series in in_series(runs, NAME):
        curves += curves_of(series, scalars, against)
    panels = sorted({curve.panel for curve in curves}, key=_depth, reverse=True)
    figure = figures.lines(curves, f"{against} of meta-training", panels)
    figures.mark(figure, named)
    return save(NAME, output, curves, figure, against, "of", counted="runs")


def curves_of(series: Series, scalars: str, against: str) -> list[Curve]:
    """Returns a curve of every scalar that all networks of a series have, at the lifetimes that they share.

    Raises:
        InputError: see `analyze`.
    """
    logged = [read_scalars(run.path) for run in series.runs]
    for run, of_run in zip(series.runs, logged):
        _check(run, of_run, scalars, against)
    chosen = [tag for tag in logged[0] if _is_named(tag, scalars) and all(tag in of_run for of_run in logged)]
    return [_curve(series, tag, [of_run[tag] for of_run in logged], logged, against) for tag in chosen]


def _curve(series: Series, tag: str, points: Sequence[Scalar], logged: Sequence[dict], against: str) -> Curve:
    shared = sorted(set.intersection(*(set(of_run.lifetimes) for of_run in points)))
    values = np.array([of_run.at(shared) for of_run in points])
    x = shared if against == "lifetimes" else list(np.mean([of_run[MINUTES].at(shared) for of_run in logged], 0))
    panel, quantity = _panel(series, tag)
    unit = series.task.unit if tag.startswith(ERRORS) else ""
    return Curve(series, quantity, unit, panel, x, values)


def _mark(text: str) -> tuple[float, str]:
    place, _, name = text.partition(":")
    try:
        number = float(place)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and name):
        raise InputError(f"--marks={text} is no PLACE:NAME; legal is a number and a name, such as 1920:other code")
    return number, name


def _check(run: Run, logged: dict[str, Scalar], scalars: str, against: str) -> None:
    if not logged:
        raise InputError(f"--logdir={run.path} holds no events of its meta-training")
    if not any(_is_named(tag, scalars) for tag in logged):
        legal = ", ".join(sorted({tag.partition("/")[0] for tag in logged}))
        raise InputError(f"--scalars={scalars}: --logdir={run.path} has none of them; legal are those of {legal}")
    if against == "minutes" and MINUTES not in logged:
        raise InputError(f"--against=minutes: --logdir={run.path} did not log them; legal is lifetimes")


def _is_named(tag: str, scalars: str) -> bool:
    return f"{tag}/".startswith(f"{scalars}/")


def _panel(series: Series, tag: str) -> tuple[str, str]:
    """Returns the panel and the quantity of a scalar: `rule/layer_1/theta/110` is `rule/theta/110` of a layer."""
    words = tag.split("/")
    for depth, layer in enumerate(reversed(series.runs[0].learner.network.head)):
        if layer.name in words:
            return place(depth), "/".join(word for word in words if word != layer.name)
    return WHOLE, tag


def _depth(panel: str) -> int:
    """Returns how far below the output a panel's layer is; -1 for the network as a whole."""
    return -1 if panel == WHOLE else int(panel.split()[0]) if panel[0].isdecimal() else 0
