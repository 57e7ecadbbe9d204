"""How all figures look: the same colour, marker and line style for a method in each of them.

Colours are those of Okabe and Ito, which differ in lightness and for every kind of
colour vision. The marker shows the method and the line style the number of plastic
layers, so that a figure reads without colour, too. More plastic layers are darker;
variants of a method are lighter, with hollow markers. Nothing here uses pyplot.
"""

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flp_tf.analysis.result import Curve
from flp_tf.analysis.series import Series, family, order_name
from flp_tf.learners import METHODS

# Of the methods, in the order in which they are registered.
COLORS = ("#0072B2", "#E69F00", "#CC79A7", "#009E73", "#D55E00", "#56B4E9", "#666666", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# By the number of plastic layers.
LINES = (":", "-", (0, (5, 1.5)), "-.", (0, (1, 1)), (0, (3, 1, 1, 1, 1, 1)))
DARKNESS = (1.0, 1.0, 0.68, 0.45)
# By the variant: what is left of the colour, and how the marker is filled.
SHADES = (1.0, 0.6, 0.75, 0.45)
FILLS = ("full", "none", "left", "right")

PANEL, LEAST_WIDTH = (3.7, 2.9), 6.4
MARKERS_A_LINE = 8
# Curves that span more than this factor are drawn on a logarithmic axis.
LOGARITHMIC = 15.0
BAND_OPACITY = 0.2
# Characters in a line of an axis label.
WORDS = 38
# Up to this many places on the x axis have a tick each.
MOST_TICKS = 12
# Of a legend, in inches: the width of a letter, of all else in an entry, and its height.
LETTER, HANDLE, LEGEND_LINE = 0.066, 0.75, 0.21


def style(series: Series) -> dict[str, Any]:
    """Returns the line and marker of a series, the same in every figure."""
    config, variant = series.config, series.variant % len(FILLS)
    method = list(METHODS).index(config.method) % len(COLORS)
    depth = config.num_plastic_layers - 1
    color = DARKNESS[min(depth, len(DARKNESS) - 1)] * np.array(colors.to_rgb(COLORS[method]))
    color = SHADES[variant] * color + 1 - SHADES[variant]
    return {
        "color": colors.to_hex(color),
        "marker": MARKERS[method],
        "linestyle": LINES[depth % len(LINES)],
        "fillstyle": FILLS[variant],
        "markersize": 5.5,
        "linewidth": 1.6,
    }


def lines(curves: Sequence[Curve], x_label: str, panels: Sequence[str]) -> Figure:
    """Draws curves with a band of one standard error; a row a quantity, a column a panel.

    Args:
        curves: what to draw, in the order of rows and legend.
        x_label: of all panels.
        panels: the columns, `Curve.panel` of the curves.
    """
    return _grid(curves, x_label, panels, _line)


def points(curves: Sequence[Curve], x_label: str, panels: Sequence[str]) -> Figure:
    """Draws points at whole numbers with bars of one standard error, else as `lines`."""
    figure = _grid(curves, x_label, panels, _bars)
    places = _places(curves)
    for axis in figure.axes:
        axis.set_xlim(places[0] - 0.5, places[-1] + 0.5)
    return figure


def join(figure: Figure, curves: Sequence[Curve], panels: Sequence[str]) -> None:
    """Joins the points of a method with different numbers of plastic layers.

    Feature reuse, which is FLP with one plastic layer, is joined with FLP.

    Args:
        figure: from `points`.
        curves: its curves, of one point each.
        panels: its columns.
    """
    for axis, panel in zip(figure.axes, panels):
        joined: dict[tuple, list[tuple[float, float]]] = {}
        for curve in curves:
            if curve.panel == panel:
                config = curve.series.config
                key = (family(config.method), order_name(config), curve.series.variant)
                joined.setdefault(key, []).append((curve.x[0], curve.mean()[0]))
        for means in joined.values():
            axis.plot(*zip(*sorted(means)), color="0.6", linewidth=1, zorder=0)


def _grid(
    curves: Sequence[Curve], x_label: str, panels: Sequence[str], draw: Callable[[Axes, Curve, int], None]
) -> Figure:
    quantities = list(dict.fromkeys(curve.quantity for curve in curves))
    labels = list(dict.fromkeys(curve.series.label for curve in curves))
    width = max(PANEL[0] * len(panels), LEAST_WIDTH) + 0.4
    columns = _legend_columns(labels, width)
    height = PANEL[1] * len(quantities) + LEGEND_LINE * math.ceil(len(labels) / columns) + 0.4
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(len(quantities), len(panels), sharex=True, sharey="row", squeeze=False)
    for row, quantity in enumerate(quantities):
        of_row = [curve for curve in curves if curve.quantity == quantity]
        for axis, panel in zip(axes[row], panels):
            for curve in of_row:
                if curve.panel == panel:
                    draw(axis, curve, labels.index(curve.series.label))
            axis.grid(color="0.9", linewidth=0.6)
            axis.set_axisbelow(True)
            axis.spines[["top", "right"]].set_visible(False)
            if len(panels) > 1 and row == 0:
                axis.set_title(panel, fontsize=10)
        unit = of_row[0].unit
        axes[row, 0].set_ylabel(textwrap.fill(f"{quantity} ({unit})" if unit else quantity, WORDS))
        _scale(axes[row, 0], of_row)
    for axis in axes[-1]:
        axis.set_xlabel(x_label)
        if len(_places(curves)) <= MOST_TICKS:
            axis.set_xticks(_places(curves))
    _legend(figure, labels, columns)
    return figure


def _places(curves: Sequence[Curve]) -> list[int]:
    return sorted({int(x) for curve in curves for x in curve.x})


def _line(axis: Axes, curve: Curve, place: int) -> None:
    mean, error = curve.mean(), curve.standard_error()
    every = max(len(mean) // MARKERS_A_LINE, 1)
    look = style(curve.series)
    # Each method's markers start elsewhere, so that curves on top of each other show.
    axis.plot(curve.x, mean, label=curve.series.label, markevery=(place * every // 5 % every, every), **look)
    axis.fill_between(curve.x, mean - error, mean + error, color=look["color"], alpha=BAND_OPACITY, linewidth=0)


def _bars(axis: Axes, curve: Curve, place: int) -> None:
    del place
    look = style(curve.series)
    axis.errorbar(curve.x, curve.mean(), curve.standard_error(), label=curve.series.label, capsize=3, **look)


def _scale(axis: Axes, curves: Sequence[Curve]) -> None:
    """Makes the axis logarithmic where that serves, and start at zero where it does not."""
    means = np.concatenate([curve.mean() for curve in curves])
    means = means[np.isfinite(means)]
    if len(means) and np.min(means) > 0 and np.max(means) / np.min(means) > LOGARITHMIC:
        axis.set_yscale("log")
    elif len(means) and np.min(means) >= 0:
        axis.set_ylim(bottom=0)


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """Returns how many entries of a legend fit side by side into `width` inches."""
    return max(min(int(width / (LETTER * max(map(len, labels)) + HANDLE)), len(labels)), 1)


def _legend(figure: Figure, labels: Sequence[str], columns: int) -> None:
    """Puts one legend above all panels."""
    handles = {}
    for axis in figure.axes:
        of_axis, names = axis.get_legend_handles_labels()
        handles |= zip(names, of_axis)
    figure.legend(
        [handles[label] for label in labels],
        labels,
        loc="outside upper center",
        ncols=columns,
        fontsize=9,
        frameon=False,
        handlelength=3.2,
    )
