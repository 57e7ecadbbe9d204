"""What runs logged in meta-training, as a figure."""

import analysis_runs as tiny
import commands
import helpers
import numpy as np
import pytest
import tensorflow as tf
from analysis_runs import OVER_NETWORKS, column

import flp_tf
from flp_tf.analysis import ANALYSES, steps
from flp_tf.errors import InputError
from flp_tf.runs.summaries import read_scalars

pytestmark = pytest.mark.slow


def events(path) -> dict[str, dict[int, float]]:
    """Returns all scalars of a run by tag and lifetime, read record by record."""
    found = {}
    for file in sorted(path.glob("events.out.tfevents.*")):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                array = tf.make_ndarray(value.tensor)
                if array.shape == () and array.dtype == np.float32:
                    found.setdefault(value.tag, {})[event.step] = float(array)
    return found


def analyze(runs, output, **options):
    result = ANALYSES["history"](runs, output, lifetimes=2, seed=0, **options)
    return result.figure, tiny.table(result.files[1])


@pytest.fixture(scope="module")
def polynomial(tmp_path_factory):
    """Two seeds of a tiny run with a polynomial rule."""
    paths = [tmp_path_factory.mktemp("polynomial") / f"run{seed}" for seed in (0, 1)]
    with pytest.MonkeyPatch.context() as patch, helpers.eagerly():
        commands.make_bare(patch)
        for seed, path in enumerate(paths):
            commands.run(*commands.SHORT, "--rule=polynomial", f"--seed={seed}", f"--logdir={path}")
    return [flp_tf.load(path) for path in paths]


def test_scalars_are_read_as_they_were_logged(finished_run):
    found = read_scalars(finished_run.path)
    assert {tag: dict(zip(*scalar)) for tag, scalar in found.items()} == events(finished_run.path)
    minutes = found["outer/minutes"]
    assert minutes.lifetimes == (2, 4, 6) and 0 < minutes.values[0] < minutes.values[1] < minutes.values[2]
    assert minutes.values[-1] == pytest.approx(flp_tf.load(finished_run.path).progress()["minutes"], rel=1e-3)
    np.testing.assert_allclose(minutes.at([3]), np.mean(minutes.values[:2]))


def test_coefficients_move(polynomial, tmp_path):
    """A row for each coefficient, a column for each layer, with the mean and standard error of two seeds."""
    figure, rows = analyze(polynomial, tmp_path, scalars="rule")
    logged, terms = [events(run.path) for run in polynomial], ("110", "021", "111", "011", "010")
    for depth, layer in enumerate(reversed(polynomial[0].learner.network.head)):
        for term in terms:
            where = {"quantity": f"rule/theta/{term}", "of": steps.place(depth)}
            values = np.array([list(of_run[f"rule/{layer.name}/theta/{term}"].values()) for of_run in logged])
            np.testing.assert_array_equal(column(rows, "lifetimes", **where), [2, 4, 6])
            np.testing.assert_allclose(column(rows, **where), values.mean(0), rtol=1e-6)
            np.testing.assert_allclose(
                column(rows, OVER_NETWORKS, **where),
                np.abs(values[0] - values[1]) / 2,
                rtol=1e-3,
                atol=1e-7,
            )
    assert len(rows) == 30 and {row["runs"] for row in rows} == {"2"} and len(figure.axes) == 10
    assert [axis.get_title() for axis in figure.axes[:2]] == ["1 layer below the output", "output layer"]


def test_error_against_lifetimes_and_minutes(polynomial, finished_run, without_pictures, tmp_path):
    runs = [flp_tf.load(finished_run.path), polynomial[0]]
    for against in ("lifetimes", "minutes"):
        figure, rows = analyze(runs, tmp_path / against, against=against, marks=("100:other code",))
        assert [text.get_text().strip() for text in figure.axes[0].texts] == ["other code"]
        for run, method in zip(runs, dict.fromkeys(row["method"] for row in rows), strict=True):
            logged = events(run.path)
            lifetimes, values = zip(*logged["validation/error"].items())
            minutes = np.interp(lifetimes, list(logged["outer/minutes"]), list(logged["outer/minutes"].values()))
            expected = lifetimes if against == "lifetimes" else minutes
            np.testing.assert_allclose(column(rows, against, method=method), expected, rtol=1e-6)
            np.testing.assert_allclose(column(rows, method=method), values, rtol=1e-6)
        assert {row["unit"] for row in rows} == {"MSE"} and {row["of"] for row in rows} == {"network"}


def test_what_is_not_there_is_refused(run_copy, tmp_path, monkeypatch):
    run = flp_tf.load(run_copy)
    with pytest.raises(InputError, match=r"--scalars=rule: --logdir=.* legal are those of beta, .*validation"):
        analyze([run], tmp_path, scalars="rule")
    line = commands.refusal("--mode=analyze", "--analysis=history", f"--logdir={run_copy}", "--against=days")
    assert "--against=days is unknown; legal values: lifetimes, minutes" in line
    with pytest.raises(InputError, match="holds no events of its meta-training"):
        analyze([run._replace(path=tmp_path)], tmp_path)
    for mark in ("soon:other code", "3", "3:", "nan:other code"):
        line = commands.refusal("--mode=analyze", "--analysis=history", f"--logdir={run_copy}", f"--marks={mark}")
        assert f"--marks={mark} is no PLACE:NAME" in line
    # Runs of earlier versions have no minutes.
    logged = {tag: scalar for tag, scalar in read_scalars(run_copy).items() if tag != "outer/minutes"}
    monkeypatch.setattr("flp_tf.analysis.history.read_scalars", lambda _: logged)
    with pytest.raises(InputError, match="--against=minutes: --logdir=.* did not log them; legal is lifetimes"):
        analyze([run], tmp_path, against="minutes")
