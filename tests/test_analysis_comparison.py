"""Comparison of methods over networks, against Welch's formulas."""

import math

import analysis_runs as tiny
import numpy as np
import pytest
import tensorflow as tf
from analysis_runs import LIFETIMES
from scipy.stats import t
from test_analysis_sweep import errors, scaled, sine_run

from flp_tf.analysis.comparison import cells
from flp_tf.analysis.series import in_series
from flp_tf.errors import InputError
from flp_tf.statistics import Interval, paired_ratio, ratio

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("eager", "without_pictures")]


def welch(a, b):
    """Returns the interval of the difference of means, with the degrees of freedom of Welch and Satterthwaite."""
    parts = [np.var(values, ddof=1) / len(values) for values in (a, b)]
    freedom = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (a, b)))
    half = t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    return np.mean(a) - np.mean(b) + np.array([-half, half])


@pytest.fixture
def series_of(tmp_path):
    """Makes finished networks that differ in their seed alone, each with slow weights of another size."""

    def make(factors, **flags):
        runs = [scaled(sine_run(seed=seed, **flags), factor) for seed, factor in enumerate(factors)]
        folders = [tmp_path / f"{run.config.method}{run.config.seed}" for run in runs]
        for folder in folders:
            folder.mkdir(exist_ok=True)
            (folder / "result.json").touch()
        return [run._replace(path=folder) for run, folder in zip(runs, folders)]

    return make


def compare(runs, tmp_path, **options):
    """Returns the comparison, in a folder of its own."""
    return tiny.analyze("comparison", runs, tmp_path / "compared", **options)


def test_a_table_over_networks(series_of, tmp_path):
    """The first series is what others are compared with, whatever the order of the runs after it."""
    first, other = series_of((1.0, 1.1, 1.3)), series_of((0.7, 0.5), method="dfa")
    result = compare([first[0], *other, *first[1:]], tmp_path)
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


def test_failed_trainings_are_counted_and_in_no_mean(series_of, tmp_path):
    runs, other = series_of((1.0, 1.1, math.nan)), series_of((1.0, 100.0), method="dfa")
    limit = 2 * np.mean(errors(runs[1]))
    rows = tiny.table(compare([*runs, *other], tmp_path, failed_above=limit).files[1])
    assert [(row["networks"], row["failed"]) for row in rows] == [("2", "1"), ("1", "1")]
    assert float(rows[0]["mean"]) == pytest.approx(np.mean([errors(run) for run in runs[:2]]), rel=1e-4)
    # One network is left: a ratio without an interval.
    assert rows[1]["ratio"] and not rows[1]["ratio_low"] and rows[1]["verdict"] == "not established"
    with pytest.raises(
        InputError, match=r"names DFA \(2\) first, all of whose trainings failed .*--failed_above=1e-09"
    ):
        compare([*other, *runs], tmp_path, failed_above=1e-9)


def test_all_trainings_of_another_series_failed(series_of, tmp_path):
    rows = compare([*series_of((1.0, 1.1)), *series_of((math.nan,), method="dfa")], tmp_path).rows
    assert (rows[1]["networks"], rows[1]["failed"], rows[1]["mean"], rows[1]["ratio"]) == (0, 1, "", "")
    assert rows[1]["verdict"] == "not established"


@pytest.mark.parametrize(
    "low, high, expected", [(0.5, 0.9, "lower"), (1.1, 2.0, "higher"), (0.9, 1.1, "not established")]
)
def test_verdict(low, high, expected):
    assert Interval(1.0, low, high).verdict() == expected


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
    assert found.estimate == 0.0 and math.isnan(found.low) and found.verdict() == "not established"


@pytest.mark.parametrize("errors", [[2.0], [2.0, 0.0], [2.0, -1.0], [2.0, math.inf], [2.0, math.nan], [0.3, 2.1]])
def test_pairs_that_have_no_interval(errors):
    """One pair, an error without a logarithm, and the same ratio twice, but for its rounding."""
    found = paired_ratio(np.array(errors), np.array([0.1, 0.7][: len(errors)]))
    assert math.isnan(found.low) and math.isnan(found.high) and found.verdict() == "not established"


def test_pairs_need_as_many_of_each():
    with pytest.raises(ValueError, match=r"errors have shape \(3,\), the reference \(1,\); expected the same"):
        paired_ratio(np.array([1.0, 2.0, 3.0]), np.array([1.0]))


def test_paired_interval_covers_the_ratio_in_95_percent_of_samples():
    """Of networks that differ more from each other than their two errors do."""
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(1000):
        first = rng.normal(0.0, 3.0, 4)
        found = paired_ratio(np.exp(first + rng.normal(np.log(3.0), 0.2, 4)), np.exp(first))
        inside.append(found.low < 3 < found.high)
    assert 0.93 < np.mean(inside) < 0.97


def test_samples_that_do_not_vary_have_no_interval():
    """Copies of one network are no sample."""
    found = ratio(np.array([2.0, 2.0]), np.array([1.0, 1.0]))
    assert found.estimate == pytest.approx(2.0) and math.isnan(found.low) and math.isnan(found.high)
    assert np.isfinite(ratio(np.array([2.0, 2.1]), np.array([1.0, 1.5])).low)


def test_diverged_trainings_failed_and_unfinished_ones_are_refused(series_of, tmp_path):
    first, (ended, other) = series_of((1.0, 1.1)), series_of((1.0, 1.0), method="dfa")
    (other.path / "result.json").unlink()
    with pytest.raises(InputError, match=f"--logdir={other.path} is not finished"):
        compare([*first, ended, other], tmp_path)
    with tf.summary.create_file_writer(str(other.path)).as_default(step=3):
        tf.summary.text("diverged", "Meta-training diverged")
    result = compare([*first, ended, other], tmp_path)
    assert [(row["networks"], row["failed"]) for row in result.rows] == [(2, 0), (1, 1)]
    (axis,) = result.figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["FLP (2)", "DFA (2) (1 failed)"]


def test_one_seed_is_one_network(series_of, tmp_path):
    first, other = series_of((1.0, 1.1))
    with pytest.raises(InputError, match=f"--logdir={other.path} and {first.path} are both FLP .* --seed=0"):
        compare([first, other._replace(config=first.config)], tmp_path)


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"query_size": 4}, "has query examples 15, --logdir=.* 12"),
        ({"batch_size": 5}, "has batch size 4, --logdir=.* 5"),
        ({"continual": False}, "has order continual, --logdir=.* i.i.d."),
    ],
)
def test_networks_are_tested_in_the_same_lifetimes(flags, message, series_of, tmp_path):
    with pytest.raises(InputError, match=message):
        compare([*series_of((1.0,)), *series_of((1.0,), **flags)], tmp_path)


def test_cells_of_one_network():
    (series,) = in_series([sine_run()], "comparison")
    found = cells(series, np.array([[1.0, 3.0]]), series, np.array([[1.0, 3.0]]))
    names = ["mean", "standard_error_over_networks", "standard_error_over_lifetimes"]
    assert [found[name] for name in names] == [2, "", 1]
