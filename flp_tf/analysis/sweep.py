"""Sweep: the error of several runs against an option in which they differ."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flp_tf.analysis import figures
from flp_tf.analysis.base import ANALYSES, with_options
from flp_tf.analysis.readout import errors_after_lifetime
from flp_tf.analysis.result import Curve, Result, save
from flp_tf.analysis.series import identity, in_series
from flp_tf.errors import InputError
from flp_tf.registry import REGISTRIES, option, text
from flp_tf.runs.run import Run

NAME = "sweep"
PANEL = "after the lifetime"


class Measured(NamedTuple):
    """A number measured on a meta-trained network, which is not an option of its run.

    Attributes:
        label: of the axis.
        value: function that returns the number.
        follows_from: the options that change it; runs that differ only in these are joined.
    """

    label: str
    value: Callable[[Run], float]
    follows_from: tuple[str, ...]


def bits(run: Run) -> float:
    """Returns the information in the distribution of the initial weights of all plastic layers, in bits.

    Raises:
        InputError: if the initial weights have no distribution.
    """
    found = [layer.bits() for layer in run.learner.network.head]
    if None in found:
        raise InputError(
            f"--against=bits needs a distribution of initial weights; --logdir={run.path} has "
            f"--initial={getattr(run.config, 'initial', 'none')}, legal is gaussian"
        )
    return sum(map(float, found))


MEASURED = {
    "bits": Measured("bits of the initial weights", bits, ("initial_penalty_weight",)),
    "width": Measured(
        "units below the output layer", lambda run: float(run.learner.network.head[-1].fan_in), ("network",)
    ),
}


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """Options of the sweep."""

    against: str = option("", f"The option that the runs differ in, such as lifetime, or {' or '.join(MEASURED)}.")


@ANALYSES.register(NAME)
@with_options(SweepOptions)
def analyze(runs: list[Run], output: Path, *, lifetimes: int, seed: int, against: str = "") -> Result:
    """Error after the lifetime against one of the runs' options, with one point per run.

    Each point has bars of one standard error over lifetimes. Lines join the means over runs
    that differ only in their seed. Instead of an option, `against` may be one of `MEASURED`:
    `bits`, the KL divergence of the initial weights from their prior (paper, section 8.3), or
    `width`, the number of units below the output layer.

    Args:
        runs: of one task. Runs that also differ in other options are separate series.
        output: folder of the results.
        lifetimes: unseen lifetimes of each network.
        seed: of the lifetimes.
        against: flag of the option, without dashes, or one of `MEASURED`.

    Raises:
        InputError: if a run has no such option.
    """
    measured = MEASURED.get(against)
    curves = []
    for series in in_series(runs, NAME, swept(runs, against)):
        for run in series.runs:
            one = series._replace(runs=(run,))
            errors = errors_after_lifetime(one, lifetimes=lifetimes, seed=seed)[:, None]
            curves.append(Curve(one, "error", series.task.unit, PANEL, [place(run, against)], errors))
    curves.sort(key=lambda curve: _rank(curve.x[0]))
    figure = figures.scatter(curves, measured.label if measured else against, [PANEL])
    figures.join(
        figure,
        curves,
        [PANEL],
        line=lambda curve: curve.series.label,
        point=lambda curve: tuple(sorted(identity(curve.series.config).items())),
    )
    return save(NAME, output, curves, figure, against, "tested")


def swept(runs: list[Run], against: str) -> set[str]:
    """Returns the options in which joined runs may differ.

    If `against` is a choice of components, these include the options that not all of the runs have.
    """
    if against in MEASURED:
        return set(MEASURED[against].follows_from)
    found = [set(run.config.to_dict()) for run in runs]
    others = set.union(*found) - set.intersection(*found) if against in REGISTRIES else set()
    return {against, *others}


def place(run: Run, against: str) -> float | str:
    """Returns the place of a run on the axis: a number, or the option's value as text.

    Raises:
        InputError: if there is no such option or number.
    """
    if against in MEASURED:
        return MEASURED[against].value(run)
    if not against or against not in run.config.to_dict():
        legal = f"an option that all runs have, such as num_plastic_layers, or {', '.join(MEASURED)}"
        raise InputError(f"--against={against} is no option of --logdir={run.path}; legal is {legal}")
    value = getattr(run.config, against)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else text(value)


def _rank(place: float | str) -> tuple:
    """Returns a sort key for numbers and texts; numbers within texts count as numbers."""
    words = re.split(r"(\d+)", place) if isinstance(place, str) else [place]
    return tuple(int(word) if isinstance(word, str) and word.isdecimal() else word for word in words)
