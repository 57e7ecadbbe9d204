"""What every analysis shares: files, labels, looks, statistics and refusals."""

import itertools

import analysis_runs as tiny
import commands
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import t

from flp_tf.analysis import ANALYSES, figures
from flp_tf.analysis.result import Baseline, Curve, save
from flp_tf.analysis.series import Series, in_series
from flp_tf.errors import InputError

pytestmark = pytest.mark.slow

COLUMNS = {
    "readout": ("readout", "plastic_layers"),
    "interference": ("tested_on", "sines_met"),
    "alignment": ("layer", "inner_step"),
    "update_norms": ("layer", "inner_step"),
    "learning_curves": ("tested_on", "inner_step"),
}
UNITS = {
    "readout": {"MSE"},
    "interference": {"squared output"},
    "alignment": {""},
    "update_norms": {"Frobenius", "% of the weights' norm"},
    "learning_curves": {"MSE"},
}
# The networks of the paper's Table 1.
TABLE = (
    {"method": "feature_reuse", "num_plastic_layers": 1},
    {"num_plastic_layers": 2},
    {"num_plastic_layers": 3},
    {"method": "dfa"},
    {"method": "gradient", "num_plastic_layers": 3},
    {"method": "gradient", "num_plastic_layers": 3, "second_order": False},
    {"method": "oml", "num_plastic_layers": 3},
    {"method": "oml", "num_plastic_layers": 3, "second_order": False},
)


def table_runs(**flags):
    return [tiny.sine_run(f"runs/{i}", **row, **flags) for i, row in enumerate(TABLE)]


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.usefixtures("eager")
def test_files_and_figure(tmp_path, name):
    """Of two series; what an earlier analysis, of one of them, has written is replaced."""
    runs, output = [tiny.sine_run(), tiny.sine_run(method="oml")], tmp_path / "new" / name
    for chosen in (runs[:1], runs):
        result = tiny.analyze(name, chosen, output, lifetimes=2)
    png, table, events = result.files
    assert sorted(output.iterdir()) == [table, png, events.parent]
    assert list((output / f"{name}_events").iterdir()) == [events]
    rows = tiny.table(table)
    assert tuple(rows[0]) == (
        *("method", "networks", "task", "order", *COLUMNS[name]),
        *("quantity", "unit", "mean", tiny.OVER_NETWORKS, tiny.OVER_LIFETIMES),
        *("compared_with", "ratio", "ratio_low", "ratio_high"),
        *(("relative_to", "change", "change_low", "change_high") if name == "readout" else ()),
        "lifetimes",
    )
    assert {row["method"] for row in rows} == {"FLP (2)", "OML (2), second order"}
    assert {row["unit"] for row in rows} == UNITS[name]
    assert [dict(zip(row, map(str, row.values()))) for row in result.rows] == rows
    image = tf.io.decode_png(png.read_bytes())
    assert min(image.shape[:2]) > 300 and len(np.unique(image)) > 10
    tags = [value.tag for event in tf.compat.v1.train.summary_iterator(str(events)) for value in event.summary.value]
    assert tags == [name]
    figure = result.figure
    rows = [axis for axis in figure.axes if axis.get_subplotspec().is_first_col()]
    assert all(axis.get_ylabel() for axis in rows)
    assert all(axis.get_xlabel() for axis in figure.axes if axis.get_subplotspec().is_last_row())
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["FLP (2)", "OML (2), second order"]


@pytest.mark.usefixtures("eager", "without_pictures")
def test_files_that_the_analysis_did_not_write_stay(tmp_path):
    """Those of a run and of another analysis; a link in the place of a result is refused, and nothing written."""
    foreign = ["events.out.tfevents.1.host", "update_norms_events/events.out.tfevents.1.host", "config.json", "file"]
    for name in foreign:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    link = tmp_path / "interference.png"
    link.symlink_to(tmp_path / "file")
    before = commands.contents(tmp_path)
    with pytest.raises(InputError, match=r"interference\.png is in the way"):
        tiny.analyze("interference", [tiny.sine_run()], tmp_path)
    assert commands.contents(tmp_path) == before
    link.unlink()
    before = commands.contents(tmp_path)
    results = [tiny.analyze(name, [tiny.sine_run()], tmp_path) for name in ("interference", "alignment")]
    after = commands.contents(tmp_path)
    written = {str(file.relative_to(tmp_path)) for result in results for file in result.files}
    assert after.keys() == before.keys() | written
    assert all(after[name] == name.encode() for name in foreign)


@pytest.mark.parametrize("name", [*COLUMNS, "adaptability"])
@pytest.mark.usefixtures("without_pictures")
def test_classification_runs_go_through_every_analysis(tmp_path, name):
    """As graphs, with a plastic convolution."""
    flags = {"num_plastic_layers": 3}
    if name == "adaptability":
        flags = {"method": "feature_reuse", "num_plastic_layers": 1, "episodes": 1}
    rows = tiny.analyze(name, [tiny.image_run(**flags)], tmp_path, lifetimes=2).rows
    assert rows and all(np.isfinite(row["mean"]) for row in rows)


@pytest.mark.parametrize("name", ["alignment", "interference"])
@pytest.mark.usefixtures("without_pictures")
def test_compiled_and_not_are_the_same(tmp_path, name):
    results = [tiny.analyze(name, [tiny.sine_run(jit_compile=jit)], tmp_path / str(jit)) for jit in (False, True)]
    np.testing.assert_allclose(*([row["mean"] for row in result.rows] for result in results), rtol=1e-3)


def test_every_network_of_the_table_reads_without_colour():
    looks = [figures.style(series) for series in in_series(table_runs(), "readout")]
    shapes = [(str(look["linestyle"]), look["marker"], look["fillstyle"]) for look in looks]
    assert len(set(shapes)) == len(shapes)
    assert len({look["color"] for look in looks}) >= 5


def test_a_method_looks_the_same_whatever_it_stands_beside():
    runs = table_runs()
    together = {series.label: figures.style(series) for series in in_series(runs, "readout")}
    for run in runs:
        (alone,) = in_series([run], "readout")
        assert figures.style(alone) == together[alone.label]


def test_labels():
    assert [series.label for series in in_series(table_runs(), "readout")] == [
        "feature reuse (1)",
        "FLP (2)",
        "FLP (3)",
        "DFA (2)",
        "gradient (3), second order",
        "gradient (3), first order",
        "OML (3), second order",
        "OML (3), first order",
    ]


@pytest.mark.parametrize(
    "flags, expected",
    [
        (({}, {"seed": 1}), ["FLP (2)"]),
        (({}, {"log_every": 7}), ["FLP (2)"]),
        (({}, {"segment_length": 3}), ["FLP (2)"]),
        (({}, {"rule": "hebb"}), ["FLP (2), rule=oja", "FLP (2), rule=hebb"]),
        (
            ({"method": "oml"}, {"method": "oml", "second_order": False, "inner_rate": 0.1}),
            ["OML (2), second order", "OML (2), first order"],
        ),
        (({"method": "oml"}, {"continual": False}), ["OML (2), second order, continual", "FLP (2), i.i.d."]),
        (
            ({}, {"rule": "hebb", "network": "5-7", "episodes": 9, "seed": 4}),
            ["FLP (2), run 0", "FLP (2), run 1"],
        ),
        # What most are is not said; nor are options that follow from a component.
        (
            ({}, {"rule": "polynomial"}, {"feedback": "cascade"}, {"episodes": 9, "rule": "hebb"}, {"batch_size": 5}),
            [
                "FLP (2)",
                "FLP (2), rule=polynomial",
                "FLP (2), feedback=cascade",
                "FLP (2), rule=hebb, episodes=9",
                "FLP (2), batch_size=5",
            ],
        ),
    ],
)
def test_labels_tell_runs_apart(flags, expected):
    series = in_series([tiny.sine_run(f"runs/run {i}", **row) for i, row in enumerate(flags)], "readout")
    assert [one.label for one in series] == expected
    looks = [tuple(map(str, figures.style(one).values())) for one in series]
    assert all(one != other for one, other in itertools.combinations(looks, 2))


def test_statistics_of_one_network_are_over_lifetimes():
    values = np.random.default_rng(0).normal(size=(6, 3))
    values[2, 1] = np.nan
    curve = Curve(Series("", (tiny.sine_run(),)), "", "", "", [0, 1, 2], values)
    # A lifetime that diverged is not left out.
    np.testing.assert_allclose(curve.mean(), [values[:, 0].mean(), np.nan, values[:, 2].mean()])
    np.testing.assert_allclose(curve.standard_error(), values.std(0, ddof=1) / 6**0.5)
    np.testing.assert_array_equal(curve._replace(values=values[:1]).standard_error(), [0, 0, 0])


def test_statistics_of_several_networks_are_over_networks(tmp_path):
    """Lifetimes of one network are no sample of networks: many of them do not make the error smaller."""
    runs = [tiny.sine_run(f"runs/{seed}", seed=seed) for seed in range(3)]
    series, values = Series("three", tuple(runs)), np.random.default_rng(0).normal(size=(3, 4, 2))
    curve = Curve(series, "error", "", "all", [1, 2], values.reshape(12, 2))
    networks, lifetimes = (values.mean(axis).std(0, ddof=1) / values.shape[1 - axis] ** 0.5 for axis in (1, 0))
    np.testing.assert_allclose(curve.standard_error(), networks)
    result = save("readout", tmp_path, [curve], figures.lines([curve], "", ["all"]), "x", "panel")
    rows = tiny.table(result.files[1])
    np.testing.assert_allclose(tiny.column(rows, tiny.OVER_NETWORKS), networks)
    np.testing.assert_allclose(tiny.column(rows, tiny.OVER_LIFETIMES), lifetimes)
    one = curve._replace(series=Series("one", (runs[0],)), values=values[0])
    rows = tiny.table(
        save("readout", tmp_path / "one", [one], figures.lines([one], "", ["all"]), "x", "panel").files[1]
    )
    assert [row[tiny.OVER_NETWORKS] for row in rows] == ["", ""]


def test_points_are_compared_with_the_first_series(tmp_path):
    """By Welch's interval, from its formula; a place that the first lacks, and numbers below zero, have none."""
    runs = [tiny.sine_run(f"runs/{seed}", seed=seed) for seed in range(3)]
    values = np.random.default_rng(0).uniform(1, 2, (2, 3, 4, 2))
    values[1, :, :, 1] *= -1
    first, second = (
        Curve(Series(name, tuple(runs)), "error", "", "all", [1, 2], of_series.reshape(12, 2))
        for name, of_series in zip(("first", "second"), values)
    )
    further = second._replace(x=[1, 3], series=Series("third", (runs[0],)), values=values[0, 0])
    curves = [first, second, further]
    result = save("readout", tmp_path, curves, figures.lines(curves, "", ["all"]), "x", "panel")
    a, b, c, d, e, f = tiny.table(result.files[1])
    names = ("compared_with", "ratio", "ratio_low", "ratio_high")
    for row in (a, b, f):
        assert [row[name] for name in names] == [""] * 4
    assert [d[name] for name in names] == ["first", "", "", ""]
    assert (e["compared_with"], e["ratio_low"], e["ratio_high"]) == ("first", "", "")
    logs = np.log(values[:, :, :, 0].mean(2))
    variances = logs.var(1, ddof=1) / 3
    freedom = variances.sum() ** 2 / (variances**2 / 2).sum()
    half = t.ppf(0.975, freedom) * variances.sum() ** 0.5
    expected = np.exp(logs[1].mean() - logs[0].mean() + np.array([0, -half, half]))
    assert c["compared_with"] == "first"
    np.testing.assert_allclose([float(c[name]) for name in names[1:]], expected)
    assert float(e["ratio"]) == pytest.approx(values[0, 0, :, 0].mean() / np.exp(logs[0].mean()))


def test_values_are_compared_with_others_of_the_same_network(tmp_path):
    """By the interval of the paired t-test, from its formula; a curve without a baseline has empty cells."""
    series = Series("three", tuple(tiny.sine_run(f"runs/{seed}", seed=seed) for seed in range(3)))
    before, after = np.random.default_rng(0).uniform(1, 2, (2, 3, 4, 1))
    curves = [
        Curve(series, "error", "", "before", [1], before.reshape(12, 1)),
        Curve(series, "error", "", "after", [1], after.reshape(12, 1), Baseline("before", before.reshape(12, 1))),
    ]
    result = save("readout", tmp_path, curves, figures.lines(curves, "", ["before", "after"]), "x", "panel")
    first, second = tiny.table(result.files[1])
    names = ("relative_to", "change", "change_low", "change_high")
    assert [first[name] for name in names] == [""] * 4 and second["relative_to"] == "before"
    logs = np.log(after.mean(1) / before.mean(1))[:, 0]
    half = t.ppf(0.975, 2) * logs.std(ddof=1) / 3**0.5
    expected = np.exp(logs.mean() + np.array([0, -half, half]))
    np.testing.assert_allclose([float(second[name]) for name in names[1:]], expected)


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"continual": False}, "needs continual runs .*--logdir=runs/sine is an i.i.d. one"),
        ({"num_sines": 1}, "needs .* at least 2 .*--logdir=runs/sine has 1"),
    ],
)
def test_interference_needs_several_sines_in_order(tmp_path, flags, message):
    with pytest.raises(ValueError, match=f"^--analysis=interference {message}"):
        tiny.analyze("interference", [tiny.sine_run(**flags)], tmp_path)


@pytest.mark.parametrize("name", [*COLUMNS, "adaptability"])
def test_runs_of_two_tasks_are_refused(tmp_path, name):
    runs = [tiny.sine_run(), tiny.image_run()]
    with pytest.raises(ValueError, match=f"^--analysis={name} .*one task.*runs/images is omniglot"):
        tiny.analyze(name, runs, tmp_path, lifetimes=2)


def test_unknown_analysis_is_refused():
    with pytest.raises(ValueError, match="^--analysis=saliency is unknown; legal values: adaptability, alignment"):
        ANALYSES["saliency"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be written"):
        tiny.analyze("interference", [tiny.sine_run()], tmp_path / "file" / "below")
