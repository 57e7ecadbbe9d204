"""What an analysis leaves: a figure, a table, TensorBoard images."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.figure
import numpy as np
import tensorflow as tf

from flp_tf.analysis.runs import Series
from flp_tf.meta.run_directory import RunDirectory
from flp_tf.meta.summaries import to_image

PNG_DPI = 160
STATISTICS = ("quantity", "unit", "mean", "standard_error", "lifetimes")


class Curve(NamedTuple):
    """One quantity of one series, as measured in a number of lifetimes.

    Attributes:
        series: the networks.
        quantity: what is measured, such as "error".
        unit: its unit, empty if it has none.
        panel: where or on what it is measured, such as "output layer".
        x: where the points are `[points]`.
        values: `[lifetimes, points]`.
    """

    series: Series
    quantity: str
    unit: str
    panel: str
    x: Sequence[int]
    values: np.ndarray

    def mean(self) -> np.ndarray:
        """Returns the mean over lifetimes `[points]`."""
        return np.mean(self.values, axis=0)

    def standard_error(self) -> np.ndarray:
        """Returns the standard error over lifetimes `[points]`, 0 for a single one."""
        count = len(self.values)
        with np.errstate(invalid="ignore"):
            return np.std(self.values, axis=0, ddof=min(count - 1, 1)) / math.sqrt(count)


class Result(NamedTuple):
    """An analysis that is done.

    Attributes:
        rows: of the CSV file, one a point.
        figure: the picture.
        files: what was written.
    """

    rows: list[dict[str, Any]]
    figure: matplotlib.figure.Figure
    files: list[Path]


def save(
    analysis: str, output: Path, curves: Sequence[Curve], figure: matplotlib.figure.Figure, x_name: str, panel_name: str
) -> Result:
    """Writes `ANALYSIS.png`, `ANALYSIS.csv` and the TensorBoard events of an analysis.

    The CSV is in long format, a row for every point:

        method, networks, task, order, <panel_name>, <x_name>, quantity, unit, mean,
        standard_error, lifetimes

    of which `standard_error` is over `lifetimes`, those of all `networks` (seeds).

    Args:
        analysis: its name.
        output: the folder.
        curves: all that was measured.
        figure: the picture of it.
        x_name: what `Curve.x` is, a column of the CSV.
        panel_name: what `Curve.panel` is, a column of the CSV.

    Raises:
        ValueError: if the folder cannot be written.
    """
    RunDirectory(str(output)).check_writable("output")
    png, table = output / f"{analysis}.png", output / f"{analysis}.csv"
    figure.savefig(png, dpi=PNG_DPI)
    columns = ["method", "networks", "task", "order", panel_name, x_name, *STATISTICS]
    rows = [dict(zip(columns, row)) for curve in curves for row in _rows(curve)]
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    for old in output.glob("events.out.*"):
        old.unlink()
    with tf.summary.create_file_writer(str(output)).as_default(step=0):
        tf.summary.image(analysis, to_image(figure))
    return Result(rows, figure, [png, table, *output.glob("events.out.*")])


def _rows(curve: Curve) -> list[tuple]:
    """Returns the points of a curve in the order of the columns."""
    config = curve.series.config
    order = "continual" if config.continual else "i.i.d."
    shared = (curve.series.label, len(curve.series.runs), config.task, order, curve.panel)
    return [
        (*shared, int(x), curve.quantity, curve.unit, float(mean), float(error), len(curve.values))
        for x, mean, error in zip(curve.x, curve.mean(), curve.standard_error())
    ]
