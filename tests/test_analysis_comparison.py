"""Comparison of methods over networks, against Welch's formulas."""

import math

import analysis_runs as tiny
import numpy as np
import pytest
from analysis_runs import LIFETIMES
from scipy.stats import t
from test_analysis_sweep import errors, scaled, sine_run

from flp_tf.analysis.comparison import Interval, cells, ratio, verdict
from flp_tf.analysis.series import in_series
from flp_tf.errors import InputError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("eager", "without_pictures")]


def welch(a, b):
    """Returns the interval of the difference of means, with the degrees of freedom of Welch and Satterthwaite."""
    parts = [np.var(values, ddof=1) / len(values) for values in (a, b)]
    freedom = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (a, b)))
    half = t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    return np.mean(a) - np.mean(b) + np.array([-half, half])


def series_of(factors, **flags):
    """Returns networks that differ in their seed alone, each with slow weights of another size."""
    return [scaled(sine_run(seed=seed, **flags), factor) for seed, factor in enumerate(factors)]


def test_a_table_over_networks(tmp_path):
    """The first series is what others are compared with, whatever the order of the runs after it."""
    first, other = series_of((1.0, 1.1, 1.3)), series_of((0.7, 0.5), method="dfa")
    result = tiny.analyze("comparison", [first[0], *other, *first[1:]], tmp_path)
    rows = tiny.table(result.files[1])
    found = {"FLP (2)": [errors(run) for run in first], "DFA (2)": [errors(run) for run in other]}
    assert [row["method"] for row in rows] == list(found)
    for row, of_series in zip(rows, found.values()):
        networks, over_lifetimes = np.mean(of_series, 1), np.mean(of_series, 0)
        assert [row[name] for name in ("networks", "failed", "lifetimes")] == [str(len(networks)), "0", str(LIFETIMES)]
        expected = [
            np.mean(networks),
            np.std(networks, ddof=1) / math.sqrt(len(networks)),
            np.std(over_lifetimes, ddof=1) / math.sqrt(LIFETIMES),
        ]
        names = ["mean", "standard_error_over_networks", "standard_error_over_lifetimes"]
        np.testing.assert_allclose([float(row[name]) for name in names], expected, rtol=1e-4)
    logs = [np.log(np.mean(of_series, 1)) for of_series in found.values()]
    expected = np.exp([np.mean(logs[1]) - np.mean(logs[0]), *welch(logs[1], logs[0])])
    np.testing.assert_allclose([float(rows[1][name]) for name in ("ratio", "ratio_low", "ratio_high")], expected, 1e-4)
    assert rows[0]["ratio"] == rows[0]["verdict"] == rows[0]["compared_with"] == ""
    assert rows[1]["compared_with"] == "FLP (2)"
    (axis,) = result.figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == list(found) and axis.yaxis_inverted()
    drawn = [line.get_xdata() for line in axis.lines if line.get_marker() != "|" and len(line.get_xdata()) > 1]
    np.testing.assert_allclose(drawn[0], np.mean(found["FLP (2)"], 1), rtol=1e-4)


def test_failed_trainings_are_counted_and_in_no_mean(tmp_path):
    runs, other = series_of((1.0, 1.1, math.nan)), series_of((1.0, 100.0), method="dfa")
    limit = 2 * np.mean(errors(runs[1]))
    rows = tiny.table(tiny.analyze("comparison", [*runs, *other], tmp_path, failed_above=limit).files[1])
    assert [(row["networks"], row["failed"]) for row in rows] == [("2", "1"), ("1", "1")]
    assert float(rows[0]["mean"]) == pytest.approx(np.mean([errors(run) for run in runs[:2]]), rel=1e-4)
    # One network is left: a ratio without an interval.
    assert rows[1]["ratio"] and not rows[1]["ratio_low"] and rows[1]["verdict"] == "not established"
    with pytest.raises(InputError, match=r"compares with DFA \(2\), whose trainings all failed"):
        tiny.analyze("comparison", [*other, *runs], tmp_path, failed_above=1e-9)


def test_all_trainings_of_another_series_failed(tmp_path):
    rows = tiny.analyze("comparison", [*series_of((1.0, 1.1)), *series_of((math.nan,), method="dfa")], tmp_path).rows
    assert (rows[1]["networks"], rows[1]["failed"], rows[1]["mean"], rows[1]["ratio"]) == (0, 1, "", "")
    assert rows[1]["verdict"] == "not established"


@pytest.mark.parametrize(
    "low, high, expected", [(0.5, 0.9, "lower"), (1.1, 2.0, "higher"), (0.9, 1.1, "not established")]
)
def test_verdict(low, high, expected):
    assert verdict(Interval(1.0, low, high)) == expected


def test_interval_covers_the_ratio_in_95_percent_of_samples():
    """Of log-normal samples of unequal sizes and spreads, whose geometric means are 1 and 3."""
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(1000):
        found = ratio(np.exp(rng.normal(0.0, 0.5, 4)), np.exp(rng.normal(np.log(3.0), 1.0, 6)))
        inside.append(found.low < 1 / 3 < found.high)
    assert 0.93 < np.mean(inside) < 0.97


def test_an_error_of_zero_has_no_logarithm():
    found = ratio(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    assert found.estimate == 0.0 and math.isnan(found.low) and verdict(found) == "not established"


def test_cells_of_one_network():
    (series,) = in_series([sine_run()], "comparison")
    found = cells(series, np.array([[1.0, 3.0]]), series, np.array([[1.0, 3.0]]))
    names = ["mean", "standard_error_over_networks", "standard_error_over_lifetimes"]
    assert [found[name] for name in names] == [2, "", 1]
