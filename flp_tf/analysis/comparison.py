"""Comparison: which of several methods has the lower error, over independently trained networks."""

import dataclasses
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from flp_tf.analysis import figures
from flp_tf.analysis.base import ANALYSES, with_options
from flp_tf.analysis.readout import errors_after_lifetime
from flp_tf.analysis.result import COMPARISON, Result, finite, write
from flp_tf.analysis.series import Series, in_series, order_name
from flp_tf.errors import InputError
from flp_tf.registry import option
from flp_tf.runs.directory import RunDirectory
from flp_tf.runs.run import Run
from flp_tf.runs.summaries import has_diverged
from flp_tf.statistics import ratio, standard_error

NAME = "comparison"
# In inches: width of the figure, width of each further panel, height of a row, and height of all else.
WIDTH, FURTHER, ROW, REST = 6.4, 5.0, 0.42, 0.9
# Most characters in one line of a row's name.
WORDS = 40


class Row(NamedTuple):
    """A line of the figure.

    Attributes:
        name: its label.
        errors: of its networks whose training did not fail `[networks]`.
        failed: number of its failed trainings.
        look: marker and color, from `figures.look`.
    """

    name: str
    errors: np.ndarray
    failed: int
    look: dict[str, Any]


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

    A series consists of the runs that differ only in their seed. The first run in `--logdir` is one
    of the reference. All networks are tested in the same lifetimes. For each series, the table has the mean
    error over networks, its standard error over networks and over lifetimes, the number of failed
    trainings, and the ratio of geometric means to the first series,

        exp(mean of log e over its networks - mean of log e over those of the first),

    of the networks' errors `e`, with Welch's 95 % interval. The verdict is "lower" or "higher"
    if the interval does not contain 1, else "not established". It is "not established", too, where a
    series has a single network.

    A training failed if it diverged, or ended with an error that is not finite or is above
    `failed_above`. Failed trainings are counted, but are not part of any mean: a verdict is about the
    others only. The interval covers the differences between trainings, in these lifetimes. Each series
    has its own interval: of twenty series that are like the first, one is "lower" or "higher" by chance.

    Args:
        runs: runs that finished or diverged, all with the same test; those of the reference first.
        output: folder of the results.
        lifetimes: unseen lifetimes of each network.
        seed: of the lifetimes.
        failed_above: error of a network above which its training counts as failed; 0: only if it is not finite.

    Raises:
        InputError: if a run is not finished, two runs of a series have the same seed, the tests differ, or all
            trainings of the first series failed.
    """
    found = in_series(runs, NAME)
    check_alike(runs)
    trained = [came_to_end(series) for series in found]
    # NaN is never below the limit.
    limit = failed_above or np.finfo(float).max
    errors: list[np.ndarray] = []
    for series in trained:
        of_series = of_networks(series, lifetimes, seed)
        errors.append(of_series[np.mean(of_series, 1) <= limit])
        if not len(errors[0]):
            raise InputError(
                f"--logdir names {series.label} first, all of whose trainings failed with --failed_above="
                f"{failed_above:g}; name another series first, or another error"
            )
    rows = [cells(series, of_series, found[0], errors[0]) for series, of_series in zip(found, errors)]
    drawn = [row_of(series, np.mean(of_series, 1)) for series, of_series in zip(found, errors)]
    return write(NAME, output, runs, draw({"": drawn}, found[0].task.unit), rows)


def check_alike(runs: Sequence[Run]) -> None:
    """Checks that the test of all runs has the same lifetimes.

    Raises:
        InputError: if the lifetimes differ.
    """
    first = _test(runs[0])
    for run in runs:
        for name, value in _test(run).items():
            if value != first[name]:
                raise InputError(
                    f"--analysis={NAME} tests all networks in the same lifetimes; --logdir={runs[0].path} has {name} "
                    f"{first[name]}, --logdir={run.path} {value}"
                )


def came_to_end(series: Series) -> Series:
    """Returns the networks of a series whose training did not diverge.

    Raises:
        InputError: if a run is not finished, or two have the same seed.
    """
    of_seed: dict[int, Run] = {}
    for run in series.runs:
        other = of_seed.setdefault(run.config.seed, run)
        if other is not run:
            raise InputError(
                f"--logdir={run.path} and {other.path} are both {series.label} with --seed={run.config.seed}, which is "
                "one network; name one of them"
            )
    return series._replace(runs=tuple(filter(_ended, series.runs)))


def of_networks(series: Series, lifetimes: int, seed: int) -> np.ndarray:
    """Returns the error of each network of a series after each of the same lifetimes, `[networks, lifetimes]`."""
    errors = errors_after_lifetime(series, lifetimes=lifetimes, seed=seed) if series.runs else np.zeros(0)
    return np.reshape(errors.astype(float), [-1, lifetimes])


def cells(series: Series, errors: np.ndarray, first: Series, reference: np.ndarray) -> dict[str, Any]:
    """Returns a row of the table; a cell is empty if there are too few networks or lifetimes for it.

    Args:
        series: the series of the row.
        errors: of its networks whose training did not fail `[networks, lifetimes]`.
        first: the series that it is compared with.
        reference: errors of the networks of `first` `[networks, lifetimes]`.
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
        **dict(zip(COMPARISON, (first.label, *against) if against else [""] * len(COMPARISON))),
        "verdict": against.verdict() if against else "",
    }
    # Python's own numbers, and empty cells for those that are not finite.
    return {name: finite(cell) if isinstance(cell, float) else cell for name, cell in found.items()}


def row_of(series: Series, errors: np.ndarray) -> Row:
    """Returns the line of a series in the figure; `errors` are those of its networks whose training did not fail."""
    return Row(series.label, errors, len(series.runs) - len(errors), figures.style(series))


def draw(panels: Mapping[str, Sequence[Row]], unit: str) -> Figure:
    """Draws a line per row: its networks, and the mean with a bar of one standard error over networks.

    Args:
        panels: rows by the title of their panel; the first row is at the top.
        unit: of the errors.
    """
    most = max(map(len, panels.values()))
    figure = Figure(figsize=(WIDTH + (len(panels) - 1) * FURTHER, REST + ROW * most), layout="constrained")
    for axis, (title, rows) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        for place, row in enumerate(rows):
            axis.plot(row.errors, np.full(len(row.errors), place), **row.look | {"linestyle": "none", "alpha": 0.5})
            if len(row.errors):
                bar = standard_error(row.errors)
                bar = None if math.isnan(bar) else bar
                axis.errorbar(np.mean(row.errors), place, xerr=bar, color="0.2", fmt="|", capsize=3)
        names = [row.name + f" ({row.failed} failed)" * bool(row.failed) for row in rows]
        axis.set_yticks(range(len(rows)), [textwrap.fill(name, WORDS) for name in names])
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.set_xlabel(f"error ({unit})")
        axis.set_title(title)
        scale = figures.scale_of(np.concatenate([row.errors for row in rows]))
        axis.set(**{f"x{name}": value for name, value in scale.items()})
        axis.grid(color="0.9", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _test(run: Run) -> dict[str, Any]:
    """Returns what the lifetimes of a run's test depend on, except for their seed."""
    task = run.task
    return {
        "inner steps": task.steps,
        "concepts": task.num_concepts,
        "batch size": task.batch_size,
        "query examples": task.query_examples,
        "order": order_name(run.config),
    }


def _ended(run: Run) -> bool:
    """Returns True if a run finished, False if it diverged; raises InputError if it is still unfinished."""
    if RunDirectory(run.path).result_file.exists():
        return True
    if has_diverged(run.path):
        return False
    raise InputError(f"--logdir={run.path} is not finished; legal are runs that came to their end, or diverged")
