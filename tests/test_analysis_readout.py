"""The fitted readout: its solvers, and its error beside a Python loop."""

import analysis_runs as tiny
import numpy as np
import pytest
import tensorflow as tf
from analysis_runs import LIFETIMES, OVER_LIFETIMES, column, mean_and_error
from scipy.stats import t

from flp_tf.analysis import readout

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("eager", "without_pictures")]


def test_least_squares_is_numpys():
    rng = np.random.default_rng(0)
    features, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 2))
    expected = np.linalg.lstsq(features, y, rcond=None)[0]
    np.testing.assert_allclose(readout.least_squares(tf.constant(features), tf.constant(y)), expected, atol=1e-7)


def test_least_squares_of_dependent_features_fits_all_the_same():
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(40, 3)), 2, axis=1)
    y = features @ rng.normal(size=(6, 1))
    weights = readout.least_squares(tf.constant(features), tf.constant(y))
    np.testing.assert_allclose(features @ weights, y, atol=1e-6)


def test_logistic_regression_converges():
    rng = np.random.default_rng(0)
    # Three overlapping clouds: the minimum is finite, and its gradient zero.
    labels = np.repeat(np.arange(3), 20)
    features = 2 * np.eye(3)[labels] + rng.normal(size=(60, 3))
    y = np.eye(3)[labels]
    logits = features @ readout.logistic(tf.constant(features), tf.constant(y)).numpy()
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(features.T @ (probability - y) / 60, 0, atol=1e-4)
    assert np.mean(np.argmax(logits, 1) == labels) > 0.6


def test_separable_classes_are_separated():
    features = np.random.default_rng(0).normal(size=(15, 40))
    labels = np.arange(15) % 5
    weights = readout.logistic(tf.constant(features), tf.constant(np.eye(5)[labels])).numpy()
    assert np.array_equal(np.argmax(features @ weights, 1), labels)


def features(run, x):
    """Returns what the readout of a network of two dense plastic layers sees, and a one."""
    hidden = run.learner.network.head[0]
    below = run.learner.encode(x).numpy().reshape(*x.shape[: -len(run.task.input_shape)], -1)
    activity = np.maximum(below @ hidden.kernel.numpy() + hidden.bias.numpy(), 0)
    return np.concatenate([activity, np.ones([*activity.shape[:-1], 1])], -1).astype(np.float64)


def test_readout_beside_a_python_loop(tmp_path):
    run = tiny.sine_run()
    result = tiny.analyze("readout", [run], tmp_path)
    rows = tiny.table(result.files[1])
    episode = tiny.test_episode(run)
    errors = []
    for i in range(LIFETIMES):
        y = episode.support_y.numpy()[:, i].reshape(-1, 1)
        weights = np.linalg.lstsq(features(run, episode.support_x[:, i]).reshape(len(y), -1), y, rcond=1e-6)[0]
        errors.append(np.mean(np.square(features(run, episode.query_x[i]) @ weights - episode.query_y[i].numpy())))
    plastic = np.square(tiny.outputs(run)[-1] - episode.query_y.numpy()).mean((1, 2))
    for panel, values in zip(readout.PANELS, (plastic, np.array(errors))):
        mean, error = mean_and_error(values)
        np.testing.assert_allclose(column(rows, readout=panel), mean, rtol=1e-3)
        np.testing.assert_allclose(column(rows, OVER_LIFETIMES, readout=panel), error, rtol=1e-3)


def test_readout_of_networks_of_all_depths(tmp_path):
    flp = [tiny.sine_run(num_plastic_layers=depth) for depth in (2, 3)]
    runs = [tiny.sine_run(method="feature_reuse", num_plastic_layers=1), *flp]
    result = tiny.analyze("readout", runs, tmp_path, lifetimes=2)
    depths = [(row["method"], row["plastic_layers"]) for row in result.rows if row["readout"] == readout.PANELS[1]]
    assert depths == [("feature reuse (1)", 1), ("FLP (2)", 2), ("FLP (3)", 3)]


def test_both_errors_are_compared_within_each_network(tmp_path):
    """Of two networks, by the ratio of each one's means, whose interval has one degree of freedom."""
    runs = [tiny.sine_run(f"runs/{seed}", seed=seed) for seed in range(2)]
    logs = []
    for run in runs:
        plastic, fitted = (row["mean"] for row in tiny.analyze("readout", [run], tmp_path / run.path, lifetimes=2).rows)
        logs.append(np.log(fitted / plastic))
    row = tiny.analyze("readout", runs, tmp_path / "both", lifetimes=2).rows[1]
    assert row["relative_to"] == readout.PANELS[0] and row["readout"] == readout.PANELS[1]
    half = t.ppf(0.975, 1) * np.std(logs, ddof=1) / 2**0.5
    expected = np.exp(np.mean(logs) + np.array([0, -half, half]))
    np.testing.assert_allclose([row[name] for name in ("change", "change_low", "change_high")], expected, rtol=1e-3)


def test_readout_of_classes_is_in_percent(tmp_path, monkeypatch):
    monkeypatch.setattr(readout, "EPOCHS", 30)
    run = tiny.image_run()
    result = tiny.analyze("readout", [run], tmp_path)
    assert [row["unit"] for row in result.rows] == ["% error"] * 2
    episode = tiny.test_episode(run)
    learned = tiny.outputs(run)[-1]
    fitted = []
    for i in range(LIFETIMES):
        support, query = features(run, episode.support_x[:, i]), features(run, episode.query_x[i])
        y = tf.cast(episode.support_y[:, i], tf.float64)
        weights = readout.logistic(*(tf.reshape(part, [-1, part.shape[-1]]) for part in (tf.constant(support), y)))
        fitted.append(query @ weights.numpy())
    labels = np.argmax(episode.query_y, -1)
    for row, outputs in zip(result.rows, (learned, np.stack(fitted))):
        errors = 100 * np.mean(np.argmax(outputs, -1) != labels, axis=-1)
        np.testing.assert_allclose((row["mean"], row[OVER_LIFETIMES]), mean_and_error(errors), rtol=1e-5)
        assert 0 < row["mean"] < 100


def test_unknown_loss_is_refused(tmp_path, monkeypatch):
    run = tiny.sine_run()
    monkeypatch.setattr(type(run.task), "loss", staticmethod(lambda outputs, y: tf.reduce_sum(outputs - y)))
    with pytest.raises(ValueError, match="^--analysis=readout .*--task=sine"):
        tiny.analyze("readout", [run], tmp_path, lifetimes=2)
