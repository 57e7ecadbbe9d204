"""How all figures look: the same colour, marker and line style for a method in each of them.

The colours are those of Okabe and Ito, which can be told apart by their lightness and with every
kind of colour vision. The marker shows the method and the line style shows the number of plastic
layers, so that figures can be read without colour, too. Networks with more plastic layers are darker;
variants of a method are lighter, with hollow markers. Nothing here uses pyplot.
"""

import itertools
import math
import textwrap
from collections.abc import Callable, Hashable, Iterable, Sequence
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
# By the variant: remaining share of the colour, and fill of the marker.
SHADES = (1.0, 0.6, 0.75, 0.45)
FILLS = ("full", "none", "left", "right")

PANEL, LEAST_WIDTH = (3.7, 2.9), 6.4
MARKERS_A_LINE = 8
# Curves that span more than this factor are drawn on a logarithmic axis.
LOGARITHMIC = 15.0
BAND_OPACITY = 0.2
# Most characters in one line of an axis label.
WORDS = 38
# Up to this many places on the x axis have a tick each.
MOST_TICKS = 12
# Style of the name of a vertical line.
MARK = {"rotation": 90, "ha": "right", "va": "top", "fontsize": 8, "color": "0.4"}
# Legend, in inches: width of a letter, width of an entry without its text, and height of an entry.
LETTER, HANDLE, LEGEND_LINE = 0.066, 0.75, 0.21


def style(series: Series) -> dict[str, Any]:
    """Returns the line and marker of a series, the same in every figure."""
    return look(series.config.method, series.config.num_plastic_layers, series.variant)


def look(method: str, num_plastic_layers: int, variant: int = 0) -> dict[str, Any]:
    """Returns the line and marker of a method.

    Args:
        method: its name.
        num_plastic_layers: of the network.
        variant: tells networks of the same method and depth apart.
    """
    turn, variant = divmod(variant, len(FILLS))
    # A fifth variant has the look of the next method, not that of the first variant.
    place = (list(METHODS).index(method) + turn) % len(COLORS)
    depth = num_plastic_layers - 1
    color = DARKNESS[min(depth, len(DARKNESS) - 1)] * np.array(colors.to_rgb(COLORS[place]))
    color = SHADES[variant] * color + 1 - SHADES[variant]
    return {
        "color": colors.to_hex(color),
        "marker": MARKERS[place],
        "linestyle": LINES[depth % len(LINES)],
        "fillstyle": FILLS[variant],
        "markersize": 5.5,
        "linewidth": 1.6,
    }


def lines(curves: Sequence[Curve], x_label: str, panels: Sequence[str]) -> Figure:
    """Draws curves with a band of one standard error; a row for each quantity, a column for each panel.

    Args:
        curves: what to draw, in the order of rows and legend.
        x_label: of all panels.
        panels: the columns, `Curve.panel` of the curves.
    """
    return _grid(curves, x_label, panels, _line)


def points(curves: Sequence[Curve], x_label: str, panels: Sequence[str]) -> Figure:
    """Draws points at whole numbers with bars of one standard error; otherwise like `lines`."""
    figure = _grid(curves, x_label, panels, _bars)
    places = _places(curves)
    for axis in figure.axes:
        axis.set_xlim(places[0] - 0.5, places[-1] + 0.5)
    return figure


def scatter(curves: Sequence[Curve], x_label: str, panels: Sequence[str]) -> Figure:
    """Draws points with bars of one standard error, at any numbers or at texts; texts keep the order of the curves.

    Args:
        curves: of one point each; otherwise as for `lines`.
        x_label: of all panels.
        panels: the columns.
    """
    figure = _grid(curves, x_label, panels, _bars)
    places = _places(curves)
    numbers = [place for place in places if not isinstance(place, str)]
    positive = [number for number in numbers if number > 0]
    if positive and numbers[0] >= 0 and positive[-1] / positive[0] > LOGARITHMIC:
        for axis in figure.axes:
            # Zero, such as that of a run without a penalty, has no logarithm.
            axis.set_xscale(**({"value": "log"} if numbers[0] else {"value": "symlog", "linthresh": positive[0]}))
            _ticks(axis, places)
    return figure


def join(
    figure: Figure,
    curves: Sequence[Curve],
    panels: Sequence[str],
    line: Callable[[Curve], Hashable] | None = None,
    point: Callable[[Curve], Hashable] | None = None,
) -> None:
    """Joins points by lines through their means; a line of a single method has its color and pattern.

    Args:
        figure: from `points` or `scatter`.
        curves: its curves, of one point each.
        panels: its columns.
        line: a key; a line joins the curves with the same key. By default it joins those of a method with
            different numbers of plastic layers. Feature reuse, which is FLP with one plastic layer, is joined with FLP.
        point: a key; curves of a line with the same key share a point, the mean of their places. By default these
            are the curves at the same place.
    """
    for axis, panel in zip(figure.axes, panels):
        joined: dict[Hashable, dict[Hashable, list[Curve]]] = {}
        for curve in curves:
            if curve.panel == panel:
                of_line = joined.setdefault((line or _family)(curve), {})
                of_line.setdefault(point(curve) if point else curve.x[0], []).append(curve)
        for of_line in joined.values():
            means = [_mean_place(together) for together in of_line.values()]
            if not isinstance(means[0][0], str):
                means.sort()
            axis.plot(*zip(*means), linewidth=1, zorder=0, **_line_of(itertools.chain(*of_line.values())))


def mark(figure: Figure, marks: Sequence[tuple[float, str]]) -> None:
    """Draws named vertical lines; the x axis becomes logarithmic if they are far from its smallest value.

    Args:
        figure: from `lines`.
        marks: places on the x axis, and names of the lines.
    """
    for axis in figure.axes if marks else ():
        places = [place for place, _ in marks]
        least, last = axis.dataLim.minposx, max(*places, axis.dataLim.x1)
        if min(*places, axis.dataLim.x0) > 0 and last / least > LOGARITHMIC:
            axis.set_xscale("log")
        for place, name in marks:
            axis.axvline(place, color="0.4", linewidth=1)
            axis.text(place, 0.98, f"{name} ", transform=axis.get_xaxis_transform(), **MARK)


def _line_of(curves: Iterable[Curve]) -> dict[str, Any]:
    """Returns color and pattern of a line through points: those of their method, or grey if there are several."""
    looks = [{name: style(curve.series)[name] for name in ("color", "linestyle")} for curve in curves]
    return looks[0] if all(look == looks[0] for look in looks) else {"color": "0.6"}


def _family(curve: Curve) -> tuple:
    config = curve.series.config
    return family(config.method), order_name(config), curve.series.variant


def _mean_place(curves: Sequence[Curve]) -> tuple[float | str, float]:
    """Returns the mean place and height of points; places that are texts are all the same."""
    x = curves[0].x[0]
    place = x if isinstance(x, str) else float(np.mean([curve.x[0] for curve in curves]))
    return place, float(np.mean([curve.mean()[0] for curve in curves]))


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
            axis.set_visible(any(curve.panel == panel for curve in of_row))
            axis.grid(color="0.9", linewidth=0.6)
            axis.set_axisbelow(True)
            axis.spines[["top", "right"]].set_visible(False)
        unit = of_row[0].unit
        first = next(filter(Axes.get_visible, axes[row]))
        first.set_ylabel(textwrap.fill(f"{quantity} ({unit})" if unit else quantity, WORDS))
        first.tick_params(labelleft=True)
        scale = scale_of(np.concatenate([curve.mean() for curve in of_row]))
        first.set(**{f"y{name}": value for name, value in scale.items()})
    for column, panel in zip(axes.T, panels):
        if len(panels) > 1:
            next(filter(Axes.get_visible, column)).set_title(panel, fontsize=10)
        last = next(filter(Axes.get_visible, reversed(column)))
        last.set_xlabel(x_label)
        last.tick_params(labelbottom=True)
        _ticks(last, _places(curves))
    _legend(figure, labels, columns)
    return figure


def _places(curves: Sequence[Curve]) -> list[float | str]:
    """Returns all places on the x axis: numbers in increasing order, texts in the order of the curves."""
    found = dict.fromkeys(x for curve in curves for x in curve.x)
    return list(found) if isinstance(next(iter(found)), str) else sorted(found)


def _ticks(axis: Axes, places: Sequence[float | str]) -> None:
    """Puts a tick at each place, if the places are few, have few digits, and are far enough apart for their labels."""
    if isinstance(places[0], str) or len(places) > MOST_TICKS:
        return
    labels = [f"{place:g}" for place in places]
    if all(float(label) == place for label, place in zip(labels, places)) and _are_apart(axis, places, labels):
        axis.set_xticks(places, labels)
        axis.minorticks_off()


def _are_apart(axis: Axes, places: Sequence[float], labels: Sequence[str]) -> bool:
    """Returns whether labels at these places on the x axis, in order, do not overlap."""
    along = axis.xaxis.get_transform().transform(np.array(places, float))
    inches = axis.get_position().width * axis.figure.get_figwidth()
    widest = (max(map(len, labels)) + 1) * LETTER
    return bool(np.all(np.diff(along) * inches > widest * (along[-1] - along[0])))


def _line(axis: Axes, curve: Curve, place: int) -> None:
    mean, error = curve.mean(), curve.standard_error()
    every = max(len(mean) // MARKERS_A_LINE, 1)
    look = style(curve.series)
    # The markers of each curve start at a different point, so that curves that coincide can be seen.
    axis.plot(curve.x, mean, label=curve.series.label, markevery=(place * every // 5 % every, every), **look)
    axis.fill_between(curve.x, mean - error, mean + error, color=look["color"], alpha=BAND_OPACITY, linewidth=0)


def _bars(axis: Axes, curve: Curve, place: int) -> None:
    del place
    look = style(curve.series)
    axis.errorbar(curve.x, curve.mean(), curve.standard_error(), label=curve.series.label, capsize=3, **look)


def scale_of(values: np.ndarray) -> dict[str, Any]:
    """Returns the properties of an axis for some values: logarithmic if they span a wide range, else from zero.

    Args:
        values: `[any number]`; those that are not finite are ignored.
    """
    finite = values[np.isfinite(values)]
    if len(finite) and np.min(finite) > 0 and np.max(finite) / np.min(finite) > LOGARITHMIC:
        return {"scale": "log"}
    return {"lim": (0, None)} if len(finite) and np.min(finite) >= 0 else {}


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
