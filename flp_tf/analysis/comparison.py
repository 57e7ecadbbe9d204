"""Comparison: which of several methods ends lower, over independently trained networks."""

import dataclasses
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from flp_tf.analysis import figures
from flp_tf.analysis.base import ANALYSES, with_options
from flp_tf.analysis.readout import errors_after_lifetime
from flp_tf.analysis.result import Result, write
from flp_tf.analysis.series import Series, in_series, order_name
from flp_tf.errors import InputError
from flp_tf.registry import option
from flp_tf.runs.run import Run

NAME = "comparison"
LEVEL = 0.95
LOWER, HIGHER, UNCLEAR = "lower", "higher", "not established"
# In inches: the width of the figure, a row of it, and all else of its height.
WIDTH, ROW, REST = 6.4, 0.42, 0.9
# Characters in a line of a row's name.
WORDS = 40


class Interval(NamedTuple):
    """An estimate, and where it lies with a probability of 95 %; NaN where it has no interval."""

    estimate: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class ComparisonOptions:
    """Options of the comparison."""

    failed_above: float = option(
        0.0, "Error above which a training counts as failed; 0: only one that is not finite.", least=0.0
    )


@ANALYSES.register(NAME)
@with_options(ComparisonOptions)
def analyze(
    runs: list[Run],
    output: Path,
    *,
    lifetimes: int,
    seed: int,
    failed_above: float = ComparisonOptions.failed_above,
) -> Result:
    """Errors after the lifetime over independently trained networks, and each series against the first.

    A series is the runs that differ in their seed alone; `--logdir` names one of the reference
    first. All networks are tested in the same lifetimes. The table has for each series the mean
    error over networks, its standard error over networks and over lifetimes, how many trainings
    failed, and its ratio to the first series,

        exp(mean of log e over its networks - mean of log e over those of the first),

    of the networks' errors `e`, with Welch's 95 % interval of the difference of the means. The verdict is
    "lower" or "higher" where the interval is without 1, else "not established", also where a series has
    a single network. Failed trainings are in no mean.

    Args:
        runs: of one task; those of the reference first.
        output: folder of the results.
        lifetimes: unseen lifetimes of each network.
        seed: of the lifetimes.
        failed_above: error of a network above which its training counts as failed; 0: only what is not finite does.

    Raises:
        InputError: if all trainings of the first series failed, or the runs are not of one task.
    """
    found = in_series(runs, NAME)
    errors = [of_networks(series, lifetimes, seed) for series in found]
    # NaN is not below anything.
    limit = failed_above or np.finfo(float).max
    kept = [of_series[np.mean(of_series, 1) <= limit] for of_series in errors]
    if not len(kept[0]):
        raise InputError(
            f"--analysis={NAME} compares with {found[0].label}, whose trainings all failed; name others first"
        )
    rows = [cells(series, of_series, found[0], kept[0]) for series, of_series in zip(found, kept)]
    return write(NAME, output, runs, draw(found, kept), rows)


def of_networks(series: Series, lifetimes: int, seed: int) -> np.ndarray:
    """Returns the error of each network of a series after each of the same lifetimes, `[networks, lifetimes]`."""
    return np.reshape(errors_after_lifetime(series, lifetimes=lifetimes, seed=seed), [len(series.runs), lifetimes])


def cells(series: Series, errors: np.ndarray, first: Series, reference: np.ndarray) -> dict[str, Any]:
    """Returns a row of the table; a cell is empty where networks or lifetimes are too few.

    Args:
        series: whose row it is.
        errors: of its networks that trained `[networks, lifetimes]`.
        first: the series that it is compared with.
        reference: errors of that one's networks `[networks, lifetimes]`.
    """
    networks = np.mean(errors, 1)
    against = None if series is first else ratio(networks, np.mean(reference, 1))
    found = {
        "method": series.label,
        "networks": len(networks),
        "failed": len(series.runs) - len(networks),
        "task": series.config.task,
        "order": order_name(series.config),
        "unit": series.task.unit,
        "mean": np.mean(networks) if len(networks) else math.nan,
        "standard_error_over_networks": standard_error(networks),
        "standard_error_over_lifetimes": standard_error(np.mean(errors, 0)) if len(networks) else math.nan,
        "lifetimes": errors.shape[1],
        "compared_with": first.label if against else "",
        **dict(zip(("ratio", "ratio_low", "ratio_high"), against or [math.nan] * 3)),
        "verdict": verdict(against) if against else "",
    }
    return {name: _plain(cell) for name, cell in found.items()}


def ratio(errors: np.ndarray, reference: np.ndarray) -> Interval:
    """Returns the ratio of geometric means of two samples, with Welch's interval of the difference of their logarithms.

    Args:
        errors: of independently trained networks `[networks]`.
        reference: of others `[networks]`; neither number needs to be the same.
    """
    # Half a second, which no other command needs.
    from scipy import stats

    with np.errstate(divide="ignore", invalid="ignore"):
        logs, others = np.log(errors), np.log(reference)
        estimate = np.exp(np.mean(logs) - np.mean(others)) if len(logs) else math.nan
    if min(len(logs), len(others)) < 2 or not np.all(np.isfinite([*logs, *others])):
        return Interval(float(estimate), math.nan, math.nan)
    found = stats.ttest_ind(logs, others, equal_var=False).confidence_interval(LEVEL)
    return Interval(float(estimate), float(np.exp(found.low)), float(np.exp(found.high)))


def verdict(ratio: Interval) -> str:
    """Returns what an interval of the ratio says."""
    return LOWER if ratio.high < 1 else HIGHER if ratio.low > 1 else UNCLEAR


def standard_error(values: np.ndarray) -> float:
    """Returns the standard error of a mean; NaN for fewer than two values."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def draw(found: Sequence[Series], errors: Sequence[np.ndarray]) -> Figure:
    """Draws a row per series: its networks, and the mean with a bar of one standard error over networks.

    Args:
        found: all series; the first is at the top.
        errors: of the networks of each that trained `[networks, lifetimes]`.
    """
    figure = Figure(figsize=(WIDTH, REST + ROW * len(found)), layout="constrained")
    axis = figure.subplots()
    for place, (series, of_series) in enumerate(zip(found, errors)):
        networks = np.mean(of_series, 1)
        look = figures.style(series) | {"linestyle": "none"}
        axis.plot(networks, np.full(len(networks), place), **look | {"alpha": 0.5})
        if len(networks):
            bar = standard_error(networks)
            axis.errorbar(
                np.mean(networks), place, xerr=None if math.isnan(bar) else bar, color="0.2", fmt="|", capsize=3
            )
    axis.set_yticks(range(len(found)), [textwrap.fill(series.label, WORDS) for series in found])
    axis.set_ylim(len(found) - 0.5, -0.5)
    axis.set_xlabel(f"error ({found[0].task.unit})")
    scale = figures.scale_of(np.concatenate([np.mean(of_series, 1) for of_series in errors]))
    axis.set(**{f"x{name}": value for name, value in scale.items()})
    axis.grid(color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def _plain(cell: Any) -> Any:
    """Returns a cell of the CSV: numbers as Python's, nothing where there is none."""
    if isinstance(cell, (float, np.floating)):
        return float(cell) if math.isfinite(cell) else ""
    return cell
