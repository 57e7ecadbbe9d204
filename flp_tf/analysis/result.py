"""The output of an analysis: a figure, a table, TensorBoard images."""

import csv
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.figure
import numpy as np
import tensorflow as tf

from flp_tf.analysis.series import Series, order_name
from flp_tf.errors import InputError
from flp_tf.files import check_complete, whole
from flp_tf.runs import labels
from flp_tf.runs.directory import RunDirectory
from flp_tf.runs.run import Run
from flp_tf.statistics import Interval, paired_ratio, ratio, standard_error

PNG_DPI = 160
STATISTICS = ("quantity", "unit", "mean", "standard_error_over_networks", "standard_error_over_lifetimes")
# A series that another one is compared with, the ratio of both, and the ends of its interval.
COMPARISON = ("compared_with", "ratio", "ratio_low", "ratio_high")
# Another value of the same networks, the ratio to it within each network, and the ends of its interval.
CHANGE = ("relative_to", "change", "change_low", "change_high")


class Baseline(NamedTuple):
    """What the values of a curve are compared with, network by network.

    Attributes:
        name: what it is.
        values: of the same networks, of those that they were made from, or of their controls, in the same order;
            `[networks * lifetimes, points]`, or one point for all.
    """

    name: str
    values: np.ndarray


class Curve(NamedTuple):
    """One quantity of one series, as measured in a number of lifetimes.

    Attributes:
        series: the networks.
        quantity: what is measured, such as "error".
        unit: its unit, empty if it has none.
        panel: where or on what it is measured, such as "output layer".
        x: places of the points `[points]`: numbers, or texts in the order of the axis.
        values: `[networks * lifetimes, points]`, network after network, with the same lifetimes for each.
        baseline: what each network is compared with, if anything.
    """

    series: Series
    quantity: str
    unit: str
    panel: str
    x: Sequence[float | str]
    values: np.ndarray
    baseline: Baseline | None = None

    def mean(self) -> np.ndarray:
        """Returns the mean over networks and lifetimes `[points]`."""
        return np.mean(self.values, axis=0)

    def over_networks(self) -> np.ndarray:
        """Returns the standard error over networks of their means over lifetimes `[points]`, NaN for one network."""
        return standard_error(self.networks())

    def over_lifetimes(self) -> np.ndarray:
        """Returns the standard error over lifetimes of their means over networks `[points]`, NaN for one lifetime."""
        return standard_error(np.mean(self._by_network(), axis=0))

    def standard_error(self) -> np.ndarray:
        """Returns the standard error in figures `[points]`: over networks, or over lifetimes if there is one network.

        It is 0 if there is one network and one lifetime.
        """
        if len(self.series.runs) > 1:
            return self.over_networks()
        return self.over_lifetimes() if len(self.values) > 1 else np.zeros(self.values.shape[1:])

    def networks(self) -> np.ndarray:
        """Returns the means over lifetimes of each network `[networks, points]`."""
        return np.mean(self._by_network(), axis=1)

    def changes(self) -> list[Interval]:
        """Returns, for every point, the geometric mean over networks of the ratio to the baseline, and its interval."""
        reference = self._replace(values=np.broadcast_to(self.baseline.values, self.values.shape)).networks()
        return [paired_ratio(*of_point) for of_point in zip(self.networks().T, reference.T, strict=True)]

    def _by_network(self) -> np.ndarray:
        """Returns the values `[networks, lifetimes, points]`."""
        return np.reshape(self.values, [len(self.series.runs), -1, *self.values.shape[1:]])


class Result(NamedTuple):
    """A finished analysis.

    Attributes:
        rows: of the CSV file.
        figure: the picture.
        files: the files that were written: PNG, CSV and events.
    """

    rows: list[dict[str, Any]]
    figure: matplotlib.figure.Figure
    files: list[Path]


def save(
    analysis: str,
    output: Path,
    curves: Sequence[Curve],
    figure: matplotlib.figure.Figure,
    x_name: str,
    panel_name: str,
    counted: str = "lifetimes",
    runs: Sequence[Run] | None = None,
) -> Result:
    """Writes the figure, table and TensorBoard events of an analysis.

    They are `ANALYSIS.png`, `ANALYSIS.csv` and one file in `ANALYSIS_events/`. The same
    analysis of the same runs in the same folder replaces these three files (see `check_output`).
    All other files stay, so the folder may also be that of a run or of other analyses.

    The CSV is in long format, with a row for every point:

        method, networks, task, order, <panel_name>, <x_name>, quantity, unit, mean,
        standard_error_over_networks, standard_error_over_lifetimes,
        compared_with, ratio, ratio_low, ratio_high, [relative_to, change, change_low, change_high,] lifetimes

    `lifetimes` is the number for all `networks` (seeds) together. The standard error over a single network or
    lifetime is empty. `ratio` is the ratio of geometric means over networks to `compared_with`, the first series
    with the same quantity, panel and place, with the ends of Welch's 95 % interval (`flp_tf.statistics.ratio`).
    It is empty for the first series itself, and for values that are not positive. The columns in brackets are
    there if a curve has a baseline: `change` is the geometric mean over networks of the ratio to it, with the
    interval of the paired t-test (`flp_tf.statistics.paired_ratio`). A network's value is its mean over lifetimes.
    Welch's interval is for independent networks. Where a series was made from the networks of another, as in
    `adaptability`, `change` compares them.

    Args:
        analysis: its name.
        output: the folder.
        curves: all that was measured.
        figure: the picture of the curves.
        x_name: name of `Curve.x`, a column of the CSV.
        panel_name: name of `Curve.panel`, a column of the CSV.
        counted: name of the last column of the CSV, which has the number of values of a curve.
        runs: the analysed runs; by default all networks of the curves.

    Raises:
        InputError: if the folder cannot be written, or holds files of these names that the analysis did not write.
    """
    runs = runs or [run for curve in curves for run in curve.series.runs]
    columns = ["method", "networks", "task", "order", panel_name, x_name, *STATISTICS, *COMPARISON, *CHANGE, counted]
    rows = [dict(zip(columns, row)) for curve in curves for row in _rows(curve, _first_like(curve, curves))]
    if not any(curve.baseline for curve in curves):
        rows = [{name: value for name, value in row.items() if name not in CHANGE} for row in rows]
    return write(analysis, output, runs, figure, rows)


def write(
    analysis: str,
    output: Path,
    runs: Sequence[Run],
    figure: matplotlib.figure.Figure,
    rows: list[dict[str, Any]],
) -> Result:
    """Writes a figure, and a table with any columns, as `save` does.

    Args:
        analysis: its name.
        output: the folder.
        runs: the analysed runs.
        figure: the picture.
        rows: of the CSV, one or more with the same columns.

    Raises:
        InputError: see `save`.
    """
    check_output(analysis, output, runs)
    png = _png(figure, runs)
    contents = dict(zip(_paths(analysis, output), (png, _csv(rows), _events(analysis, png))))
    for path, content in contents.items():
        with whole(path) as file:
            file.write(content)
    return Result(rows, figure, list(contents))


def check_output(analysis: str, output: Path, runs: Sequence[Run]) -> None:
    """Checks that an analysis can write into a folder, and replaces only its own results.

    Results are its own if all files are there and are of the same runs. A picture or table of the
    same name without the other files belongs to something else.

    Args:
        analysis: its name.
        output: the folder.
        runs: the analysed runs.

    Raises:
        InputError: if the check fails.
    """
    paths = _paths(analysis, output)
    # A folder of events that is a link would lead to another place.
    if paths[-1].parent.is_symlink():
        raise InputError(f"--output: {paths[-1].parent} is in the way; move it, or name another folder")
    check_complete(paths, "output")
    at_home = output.resolve() in [(run.path / "analysis" / analysis).resolve() for run in runs]
    labels.check(paths[0], [run.config for run in runs], "output", at_home, exactly=False)
    RunDirectory(output, "output").check_writable()


def finite(number: float) -> float | str:
    """Returns a number for a table: empty if it is not finite, such as the standard error over a single network."""
    return float(number) if np.isfinite(number) else ""


def _paths(analysis: str, output: Path) -> list[Path]:
    """Returns the files of an analysis: picture, table and events."""
    # Events always have the same name, because TensorBoard shows what is in all files of a folder.
    events = output / f"{analysis}_events" / f"events.out.tfevents.0.{analysis}"
    return [output / f"{analysis}.png", output / f"{analysis}.csv", events]


def _png(figure: matplotlib.figure.Figure, runs: Sequence[Run]) -> bytes:
    """Returns the content of a PNG file that also holds the label of each run, once."""
    found = {json.dumps(labels.label(run.config), sort_keys=True): None for run in runs}
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=PNG_DPI, metadata={labels.PICTURE: f"[{','.join(found)}]"})
    return file.getvalue()


def _csv(rows: list[dict[str, Any]]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def _events(analysis: str, png: bytes) -> bytes:
    """Returns the content of a TensorBoard file that shows a picture."""
    with tempfile.TemporaryDirectory() as folder:
        with tf.summary.create_file_writer(folder).as_default(step=0):
            tf.summary.image(analysis, tf.image.decode_png(png, channels=4)[None])
        (events,) = Path(folder).iterdir()
        return events.read_bytes()


def _first_like(curve: Curve, curves: Sequence[Curve]) -> Curve:
    """Returns the first curve with the quantity and panel of a curve."""
    return next(other for other in curves if (other.quantity, other.panel) == (curve.quantity, curve.panel))


def _rows(curve: Curve, first: Curve) -> list[tuple]:
    """Returns the points of a curve in the order of the columns."""
    config = curve.series.config
    shared = (curve.series.label, len(curve.series.runs), config.task, order_name(config), curve.panel)
    compared = zip(_comparisons(curve, first), _changes(curve))
    points = zip(curve.x, curve.mean(), curve.over_networks(), curve.over_lifetimes(), compared)
    named = (curve.quantity, curve.unit)
    return [
        (*shared, _plain(x), *named, *map(finite, (mean, *errors)), *ratio_to, *change, len(curve.values))
        for x, mean, *errors, (ratio_to, change) in points
    ]


def _comparisons(curve: Curve, first: Curve) -> list[tuple]:
    """Returns `COMPARISON` of every point of a curve, empty if it is the first or if that has no such point."""
    reference = {} if curve is first else dict(zip(first.x, first.networks().T))
    empty = ("",) * len(COMPARISON)
    return [
        (first.series.label, *map(finite, ratio(networks, reference[x]))) if x in reference else empty
        for x, networks in zip(curve.x, curve.networks().T)
    ]


def _changes(curve: Curve) -> list[tuple]:
    """Returns `CHANGE` of every point of a curve, empty if it has no baseline."""
    if curve.baseline is None:
        return [("",) * len(CHANGE)] * len(curve.x)
    return [(curve.baseline.name, *map(finite, change)) for change in curve.changes()]


def _plain(x: float | str) -> float | str:
    """Returns a place on the x axis as it is written to the table: whole numbers without a decimal point."""
    if isinstance(x, str):
        return x
    return int(x) if float(x).is_integer() else float(x)
