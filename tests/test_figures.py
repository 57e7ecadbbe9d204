"""Axes of figures."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import flp_tf
from flp_tf.analysis import figures
from flp_tf.analysis.result import Curve
from flp_tf.analysis.series import Series, in_series

PLACES = {
    "few": (1, 2, 4, 10),
    "crowded": (400, 800, 1000, 1200, 1600, 2000, 2400, 2800, 3000, 3200, 3600, 4000),
    "over decades": (1e-8, 1e-6, 1e-4, 1e-2),
    "over decades, two close": (0.001, 0.0011, 0.1, 1),
    "one": (5,),
}


@pytest.mark.parametrize("panels", [("output",), ("output", "hidden", "below")])
@pytest.mark.parametrize("name", PLACES)
def test_labels_of_ticks_do_not_overlap(name, panels):
    """As drawn; where there is room, each place has one."""
    places = PLACES[name]
    series = Series("FLP", (SimpleNamespace(config=flp_tf.configure()),))
    curves = [Curve(series, "error", "MSE", panel, places, np.ones((2, len(places)))) for panel in panels]
    draw = figures.scatter if "decades" in name else figures.lines
    figure = draw(curves, "lifetimes", panels)
    figure.draw_without_rendering()
    for axis in figure.axes:
        texts = [label for label in axis.get_xticklabels() if label.get_text()]
        boxes = sorted((text.get_window_extent() for text in texts), key=lambda box: box.x0)
        assert texts and all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
        if name == "few" and len(panels) == 1:
            assert [text.get_text() for text in texts] == ["1", "2", "4", "10"]


def drawn(*x):
    """Returns a figure of one curve at these places."""
    series = Series("FLP", (SimpleNamespace(config=flp_tf.configure()),))
    return figures.lines([Curve(series, "error", "MSE", "network", x, np.ones((2, len(x))))], "minutes", ["network"])


@pytest.mark.parametrize(
    ("marks", "scale"), [([(30, "half an hour")], "log"), ([(4, "soon"), (4, "now"), (5, "later")], "linear")]
)
def test_marks_are_named_lines(marks, scale):
    series = Series("FLP", (SimpleNamespace(config=flp_tf.configure()),))
    figure = figures.lines(
        [Curve(series, "error", "MSE", "network", (1, 2, 3), np.ones((2, 3)))], "minutes", ["network"]
    )
    figures.mark(figure, marks)
    (axis,) = figure.axes
    assert axis.get_xscale() == scale
    verticals = [line.get_xdata() for line in axis.lines if len({*line.get_xdata()}) == 1]
    assert [place for place, _ in verticals] == [place for place, _ in marks]
    assert [(text.get_position()[0], text.get_text().strip()) for text in axis.texts] == marks
    left, right = axis.get_xlim()
    assert left < 1 and right > marks[-1][0]


def test_no_marks_leave_a_figure_as_it_is():
    figure = drawn(1, 30)
    figures.mark(figure, [])
    (axis,) = figure.axes
    assert axis.get_xscale() == "linear" and not axis.texts


@pytest.mark.parametrize("method", ["flp", "gradient"])
def test_series_of_one_method_look_different(method):
    """Runs of one method that differ in an option, of which a method with a second order has half the looks."""
    configs = [flp_tf.configure(method=method, lifetime=10 * i) for i in range(1, 7)]
    runs = [SimpleNamespace(config=config, path=Path(f"run{i}")) for i, config in enumerate(configs)]
    looks = [tuple(sorted(figures.style(one).items())) for one in in_series(runs, "any")]
    assert len({*looks}) == 6
