"""Learning curves, interference, alignment and update norms, against explicit loops."""

import analysis_runs as tiny
import numpy as np
import pytest
from analysis_runs import LIFETIMES, OVER_LIFETIMES, column, mean_and_error

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("eager", "without_pictures")]

TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}
LAYERS = ("1 layer below the output", "output layer")


def analyze(name, runs, tmp_path, lifetimes=LIFETIMES):
    """Returns the rows of an analysis, as written."""
    return tiny.table(tiny.analyze(name, runs, tmp_path, lifetimes).files[1])


def squared_errors(run):
    """Returns the error of every sine `[steps + 1, lifetimes, sines]`."""
    y = tiny.test_episode(run).query_y.numpy()
    squared = np.square(tiny.outputs(run) - y)
    return squared.reshape(*squared.shape[:2], run.task.num_concepts, -1).mean(-1)


@pytest.mark.parametrize("method", ["flp", "gradient"])
def test_learning_curves_are_those_of_a_python_loop(tmp_path, method):
    run = tiny.sine_run(method=method)
    rows = analyze("learning_curves", [run], tmp_path)
    errors = squared_errors(run)
    # Lifetimes of three sines, two steps each: after step t, the sine at work.
    at_work = [0, 0, 0, 1, 1, 2, 2]
    current = np.stack([errors[t, :, k] for t, k in enumerate(at_work)], -1)
    earlier = np.stack([errors[t, :, :k].mean(-1) for t, k in enumerate(at_work) if k], -1)
    expected = {"current sine": current, "earlier sines": earlier, "all sines": errors.mean(-1).T}
    for panel, values in expected.items():
        mean, error = mean_and_error(values)
        np.testing.assert_allclose(column(rows, tested_on=panel), mean, **TOLERANCE)
        np.testing.assert_allclose(column(rows, OVER_LIFETIMES, tested_on=panel), error, **TOLERANCE)
    assert list(column(rows, "inner_step", tested_on="current sine")) == [0, 1, 2, 3, 4, 5, 6]
    assert list(column(rows, "inner_step", tested_on="earlier sines")) == [3, 4, 5, 6]


def test_iid_learning_curves_are_of_all_sines(tmp_path):
    run = tiny.sine_run(continual=False)
    rows = analyze("learning_curves", [run], tmp_path)
    assert {row["tested_on"] for row in rows} == {"all sines"}
    np.testing.assert_allclose(column(rows), squared_errors(run).mean((1, 2)), **TOLERANCE)


def test_learning_curves_of_classes_are_in_percent(tmp_path):
    run = tiny.image_run()
    rows = analyze("learning_curves", [run], tmp_path)
    assert {row["unit"] for row in rows} == {"% error"}
    right = np.argmax(tiny.outputs(run), -1) == np.argmax(tiny.test_episode(run).query_y, -1)
    np.testing.assert_allclose(column(rows, tested_on="all classes"), 100 * (1 - right.mean((1, 2))), **TOLERANCE)
    # The first class's queries come first: it is at work for the first two steps.
    current = 100 * (1 - right[:3, :, : run.task.query_examples // 3].mean((1, 2)))
    np.testing.assert_allclose(column(rows, tested_on="current class")[:3], current, **TOLERANCE)


def test_interference_is_that_of_a_python_loop(tmp_path):
    run = tiny.sine_run()
    rows = analyze("interference", [run], tmp_path)
    # After no sine, after one, two and three; five query examples of each sine.
    _, one, two, three = tiny.outputs(run)[::2]
    changes = [np.square(two - one)[:, :5].mean((1, 2)), np.square(three - two)[:, :10].mean((1, 2))]
    mean, error = mean_and_error(np.stack(changes, -1))
    assert list(column(rows, "sines_met")) == [2, 3]
    np.testing.assert_allclose(column(rows), mean, **TOLERANCE)
    np.testing.assert_allclose(column(rows, OVER_LIFETIMES), error, **TOLERANCE)


def test_alignment_is_the_cosine_with_the_gradient_by_hand(tmp_path):
    run = tiny.sine_run()
    rows = analyze("alignment", [run], tmp_path)
    episode, states = tiny.test_episode(run), tiny.kernels(run)
    hidden, output = run.learner.network.head
    expected = {layer: [] for layer in LAYERS}
    for x, y, before, after in zip(episode.support_x, episode.support_y, states, states[1:]):
        features, y = run.learner.encode(x).numpy(), y.numpy()
        activity = np.maximum(features @ before[0] + hidden.bias.numpy(), 0)
        slope = 2 * (activity @ before[1] + output.bias.numpy() - y) / y[0].size
        gradients = (
            np.swapaxes(features, 1, 2) @ ((slope @ np.swapaxes(before[1], 1, 2)) * (activity > 0)),
            np.swapaxes(activity, 1, 2) @ slope,
        )
        for layer, gradient, old, new in zip(LAYERS, gradients, before, after):
            update, descent = (new - old).reshape(LIFETIMES, -1), -gradient.reshape(LIFETIMES, -1)
            norms = np.linalg.norm(update, axis=1) * np.linalg.norm(descent, axis=1)
            expected[layer].append(np.sum(update * descent, 1) / norms)
    for layer in LAYERS:
        mean, error = mean_and_error(np.stack(expected[layer], -1))
        np.testing.assert_allclose(column(rows, layer=layer), mean, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(column(rows, OVER_LIFETIMES, layer=layer), error, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("run", [tiny.sine_run, tiny.image_run])
def test_gradient_descent_with_one_rate_a_layer_is_aligned(tmp_path, run):
    rows = analyze("alignment", [run(method="oml")], tmp_path)
    assert len(rows) == 12
    np.testing.assert_allclose(column(rows), 1, atol=1e-3)


def test_gradient_descent_with_negative_rates_points_the_other_way(tmp_path):
    run = tiny.sine_run(method="gradient", granularity="per_layer")
    for layer in run.learner.network.head:
        layer.plasticity.assign([[-1.0]])
    np.testing.assert_allclose(column(analyze("alignment", [run], tmp_path)), -1, atol=1e-3)


@pytest.mark.parametrize("method", ["flp", "gradient"])
def test_update_norms_are_those_of_a_python_loop(tmp_path, method):
    run = tiny.sine_run(method=method)
    rows = analyze("update_norms", [run], tmp_path)
    states = tiny.kernels(run)
    for i, layer in enumerate(LAYERS):
        old, new = (np.stack([state[i] for state in part]) for part in (states[:-1], states[1:]))
        absolute = np.linalg.norm(new - old, axis=(2, 3))
        relative = 100 * absolute / np.linalg.norm(old, axis=(2, 3))
        for quantity, values in (("update norm", absolute), ("relative update norm", relative)):
            mean, error = mean_and_error(values.T)
            where = {"layer": layer, "quantity": quantity}
            np.testing.assert_allclose(column(rows, **where), mean, rtol=1e-3)
            np.testing.assert_allclose(column(rows, OVER_LIFETIMES, **where), error, rtol=1e-3)


def test_without_plasticity_nothing_changes(tmp_path):
    run = tiny.without_plasticity(tiny.sine_run())
    for name in ("update_norms", "interference", "alignment"):
        assert np.all(column(analyze(name, [run], tmp_path / name)) == 0)
    errors = column(analyze("learning_curves", [run], tmp_path / "curves"), tested_on="all sines")
    np.testing.assert_allclose(errors, errors[0])


def test_layers_of_different_networks_are_matched_from_the_output(tmp_path):
    runs = [tiny.sine_run(method="feature_reuse", num_plastic_layers=1), tiny.sine_run(num_plastic_layers=3)]
    rows = analyze("update_norms", runs, tmp_path)
    assert {(row["method"], row["layer"]) for row in rows} == {
        ("feature reuse (1)", "output layer"),
        ("FLP (3)", "output layer"),
        ("FLP (3)", "1 layer below the output"),
        ("FLP (3)", "2 layers below the output"),
    }


def test_seeds_of_a_method_are_one_series(tmp_path):
    runs = [tiny.sine_run(seed=seed) for seed in (0, 1)]
    rows = analyze("interference", runs, tmp_path)
    assert {(row["method"], row["networks"], row["lifetimes"]) for row in rows} == {("FLP (2)", "2", "8")}
    single = [column(analyze("interference", [run], tmp_path / str(run.config.seed))) for run in runs]
    np.testing.assert_allclose(column(rows), np.mean(single, 0), **TOLERANCE)
