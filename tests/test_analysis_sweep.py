"""Analyses of what the paper leaves open: sweeps over options, longer lifetimes, settling; against explicit loops."""

import analysis_runs as tiny
import commands
import numpy as np
import pytest
import tensorflow as tf
from analysis_runs import LIFETIMES, OVER_LIFETIMES, SEED, column, mean_and_error

from flp_tf import lifetime
from flp_tf.analysis.figures import style
from flp_tf.analysis.series import in_series
from flp_tf.errors import InputError

pytestmark = pytest.mark.slow

TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}


def analyze(name, runs, tmp_path, **options):
    """Returns the figure of an analysis, and its rows as written."""
    result = tiny.analyze(name, runs, tmp_path, **options)
    return result.figure, tiny.table(result.files[1])


def errors(run, task=None):
    """Returns the error after each of the test lifetimes, by an engine that keeps everything."""
    task = task or run.task
    episode = task.sample(SEED, tf.constant(0), LIFETIMES, "test")
    state = lifetime.run(run.learner, episode, segment_length=lifetime.PLAIN).state
    outputs = lifetime.query(run.learner, state, episode)
    return np.mean(np.square(outputs - episode.query_y), (1, 2))


def sine_run(**flags):
    """Returns a network whose lifetimes have a step for each sine."""
    return tiny.sine_run(lifetime=3, **flags)


def scaled(run, factor):
    """Returns a run with other slow weights, so that its error is another."""
    for layer in run.learner.network.head:
        layer.kernel.assign(factor * layer.kernel)
    return run


@pytest.mark.usefixtures("eager", "without_pictures")
def test_sweep_over_a_number(tmp_path):
    """Two seeds and three values: a point each, joined through the means; another option is another series."""
    values = {0.0: (1.0, 1.1), 1e-6: (0.8, 0.9), 1e-3: (0.5, 0.7)}
    gaussian = {"initial": "gaussian", "initial_penalty_weight": 0.0, "plasticity_scale": 1e-4}
    runs = [
        scaled(sine_run(**gaussian | {"initial_penalty_weight": value}, seed=seed), factor)
        for value, factors in values.items()
        for seed, factor in enumerate(factors)
    ]
    other = sine_run(**gaussian, initial_granularity="per_layer")
    figure, rows = analyze("sweep", [*reversed(runs), other], tmp_path, against="initial_penalty_weight")
    own = {"method": "FLP (2), initial_granularity=per_synapse"}
    found = sorted(zip(column(rows, "initial_penalty_weight", **own), column(rows, **own)))
    expected = [(value, errors(run).mean()) for value, run in zip((value for value in values for _ in range(2)), runs)]
    np.testing.assert_allclose(found, sorted(expected), **TOLERANCE)
    _, bar = mean_and_error(errors(runs[0]))
    assert any(np.isclose(column(rows, OVER_LIFETIMES, **own), bar, rtol=1e-3))
    assert {row["lifetimes"] for row in rows} == {str(LIFETIMES)} and len(rows) == 7
    (axis,) = figure.axes
    line = max((line for line in axis.lines if not line.get_zorder()), key=lambda line: len(line.get_xdata()))
    assert line.get_color() == style(in_series(runs, "sweep", {"initial_penalty_weight"})[0])["color"]
    np.testing.assert_array_equal(line.get_xdata(), list(values))
    np.testing.assert_allclose(line.get_ydata(), np.reshape([y for _, y in expected], (3, 2)).mean(1), **TOLERANCE)
    assert axis.get_xscale() == "symlog" and axis.get_xlabel() == "initial_penalty_weight"


@pytest.mark.usefixtures("eager", "without_pictures")
def test_sweep_over_texts_layers_and_components(tmp_path):
    """Texts stand in the order of the numbers in them; what is swept, and the options of a component, are no label."""
    runs = [sine_run(network=network) for network in ("5-16", "5-6", "12-5")]
    figure, rows = analyze("sweep", runs, tmp_path / "text", against="network")
    assert [row["network"] for row in rows] == ["5-6", "5-16", "12-5"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["5-6", "5-16", "12-5"]
    runs = [sine_run(num_plastic_layers=depth) for depth in (1, 3, 2)]
    _, rows = analyze("sweep", runs, tmp_path / "depth", against="num_plastic_layers")
    assert [row["num_plastic_layers"] for row in rows] == ["1", "2", "3"]
    assert {row["method"] for row in rows} == {"FLP"}
    runs = [sine_run(rule=rule) for rule in ("oja", "polynomial")]
    _, rows = analyze("sweep", runs, tmp_path / "rule", against="rule")
    assert [(row["method"], row["rule"]) for row in rows] == [("FLP (2)", "oja"), ("FLP (2)", "polynomial")]


@pytest.mark.usefixtures("eager", "without_pictures")
def test_sweep_over_what_is_measured(tmp_path):
    """Bits by the closed form, in runs with different penalties; width of the layer below the output."""
    runs = [sine_run(initial="gaussian", initial_penalty_weight=weight) for weight in (0.0, 1e-3)]
    scaled(runs[1], 0.5)
    expected = []
    for run in runs:
        nats = 0.0
        for layer in run.learner.network.head:
            mean, sigma, prior = layer.kernel.numpy(), np.exp(layer.initial.log_spread.numpy()), layer.initial.prior
            nats += np.sum(np.log(prior / sigma) + (sigma**2 + mean**2) / (2 * prior**2) - 0.5)
        expected.append(nats / np.log(2))
    figure, rows = analyze("sweep", runs, tmp_path / "bits", against="bits")
    np.testing.assert_allclose(column(rows, "bits"), sorted(expected), rtol=1e-4)
    assert len({row["method"] for row in rows}) == 1 and "bits" in figure.axes[0].get_xlabel()
    runs = [sine_run(network=f"5-{width}") for width in (3, 9)]
    _, rows = analyze("sweep", runs, tmp_path / "width", against="width")
    assert [row["width"] for row in rows] == ["3", "9"]


@pytest.mark.parametrize(
    "against, message",
    [
        ("", "--against= is no option of --logdir=runs/sine; legal is .*bits"),
        ("ways", "--against=ways is no option of --logdir=runs/sine"),
        ("bits", "--against=bits needs .*--logdir=runs/sine has --initial=fixed"),
    ],
)
def test_sweep_over_what_is_not_there(tmp_path, against, message):
    with pytest.raises(InputError, match=message):
        tiny.analyze("sweep", [tiny.sine_run()], tmp_path, against=against)


@pytest.mark.usefixtures("eager", "without_pictures")
def test_lengths_are_those_of_longer_tasks(tmp_path):
    runs = [sine_run(curriculum=""), sine_run(lifetimes=(3, 6))]
    figure, rows = analyze("lengths", runs, tmp_path, scales=(4, 1, 2))
    own = {"method": "FLP (2), lifetimes=()"}
    expected = [mean_and_error(errors(runs[0], runs[0].task.with_lifetime(3 * scale))) for scale in (1, 2, 4)]
    np.testing.assert_array_equal(column(rows, "scale", **own), [1, 2, 4])
    np.testing.assert_allclose(column(rows, **own), [mean for mean, _ in expected], **TOLERANCE)
    np.testing.assert_allclose(column(rows, OVER_LIFETIMES, **own), [error for _, error in expected], rtol=1e-3)
    means = [mean for mean, _ in expected]
    np.testing.assert_allclose(column(rows, "change", **own), np.divide(means, means[0]), **TOLERANCE)
    assert {row["relative_to"] for row in rows} == {"scale 1"}
    assert len(rows) == 6 and len(figure.axes) == 1


def test_lengths_that_a_task_does_not_have(tmp_path):
    with pytest.raises(InputError, match="--scales=2 is not possible: --lifetime="):
        tiny.analyze("lengths", [tiny.image_run()], tmp_path, scales=(1, 2))


def recurrent(**flags):
    return sine_run(method="recurrent", **{"sub_steps": 4} | flags)


def test_settling_is_that_of_learners_with_other_sub_steps(tmp_path):
    """Errors and distances, against learners that are built with each number of sub-steps."""
    run, counts = recurrent(plasticity_scale=0.02), (2, 4)
    figure, rows = analyze("settling", [run], tmp_path, sub_step_counts=(1, *counts))
    of_count = {count: recurrent(sub_steps=count, plasticity_scale=0.02) for count in range(2, 6)}
    expected = [errors(of_count[count]).mean() for count in counts]
    assert np.ptp(expected) > 1e-2 * np.min(expected)
    np.testing.assert_array_equal(column(rows, "sub_steps", quantity="error"), counts)
    np.testing.assert_allclose(column(rows, quantity="error"), expected, **TOLERANCE)
    flp = sine_run()
    episode, states = tiny.test_episode(run), tiny.states(run)
    found = {quantity: [] for quantity in ("change in the next sub-step", "forward pass", "FLP's activity")}
    for x, y, state in zip(episode.support_x, episode.support_y, states):
        features = run.learner.encode(x)
        settled = {n: one.learner.observe(state, features, y).post[0].numpy() for n, one in of_count.items()}
        others = (
            lambda n, settled=settled: settled[n + 1],
            lambda _, features=features, state=state: run.learner.network.activities(state, features)[1],
            lambda _, features=features, state=state, y=y: flp.learner.observe(state, features, y).post[0],
        )
        for of_quantity, other in zip(found.values(), others):
            of_quantity.append(
                [
                    np.linalg.norm(np.asarray(other(n)) - settled[n], axis=(1, 2))
                    / np.linalg.norm(settled[n], axis=(1, 2))
                    for n in counts
                ]
            )
    for quantity, values in found.items():
        (name,) = {row["quantity"] for row in rows if quantity in row["quantity"]}
        where = {"quantity": name, "layer": "1 layer below the output"}
        np.testing.assert_allclose(column(rows, **where), np.mean(values, (0, 2)), rtol=1e-3, atol=1e-5)
    visible = [axis.get_visible() for axis in figure.axes]
    assert visible == [False, True, *[True] * 6]
    assert all(axis.get_ylabel() for axis in (figure.axes[1], *figure.axes[2::2]))


def test_settling_of_other_runs(tmp_path):
    with pytest.raises(InputError, match="needs runs of --method=recurrent; --logdir=runs/sine is flp"):
        tiny.analyze("settling", [tiny.sine_run()], tmp_path)
    with pytest.raises(InputError, match="--sub_step_counts: --logdir=runs/sine needs 2 sub-steps or more"):
        tiny.analyze("settling", [recurrent()], tmp_path, sub_step_counts=(1,))


def test_from_the_command_line(run_copy):
    """Options as flags; files where every analysis has them; a bad value in one line."""
    shared = ("--mode=analyze", f"--logdir={run_copy}", "--eval_episodes=2")
    commands.run(*shared, "--analysis=lengths", "--scales=1,2")
    commands.run(*shared, "--analysis=sweep", "--against=lifetime")
    for name in ("lengths", "sweep"):
        assert (run_copy / "analysis" / name / f"{name}.png").is_file()
    assert "--scales=0 is too small" in commands.refusal(*shared, "--analysis=lengths", "--scales=0")
    assert "--scales= names no length; legal" in commands.refusal(*shared, "--analysis=lengths", "--scales=")
    assert "--against does not go with --analysis=lengths" in commands.refusal(
        *shared, "--analysis=lengths", "--against=width"
    )
