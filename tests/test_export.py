"""The SavedModel: it learns online in a process that has no flp_tf."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from flp_tf import learners, lifetime, modes
from flp_tf.config import Config
from flp_tf.export import export
from flp_tf.feedback import DirectFeedback
from flp_tf.learners import FeedbackLearner
from flp_tf.networks import Network, parse
from flp_tf.tasks import Sine

STEPS = 8

# Runs where there is no flp_tf: reads support and query data, lives two lifetimes.
STRANGER = """
import sys
sys.modules["flp_tf"] = None  # Any import of it fails.
import numpy as np
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
results = {}
with np.load(sys.argv[2]) as data:
    for name in ("one", "many"):
        support_x, support_y, query_x = (data[f"{name}_{part}"] for part in ("support_x", "support_y", "query_x"))
        results[f"{name}_before"] = model.predict(query_x)
        for x, y in zip(support_x, support_y):
            model.learn(x, y)
        results[f"{name}_after"] = model.predict(query_x)
        for i, fast in enumerate(model.fast):
            results[f"{name}_fast_{i}"] = fast.numpy()
        model.reset()
        results[f"{name}_reset"] = model.predict(query_x)
assert not any(name.partition(".")[0] == "flp_tf" for name, module in sys.modules.items() if module)
np.savez(sys.argv[3], **results)
"""


def episodes(batch_size: int):
    task = Sine(num_sines=2, steps=STEPS, batch_size=batch_size, query_size=5, continual=True)
    return task.sample(3, tf.constant(0), 1, "test")


@pytest.fixture(scope="module")
def strangers_results(finished_run, tmp_path_factory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("stranger")
    data = {}
    for name, batch_size in (("one", 1), ("many", 32)):
        episode = episodes(batch_size)
        data[f"{name}_support_x"] = episode.support_x[:, 0]
        data[f"{name}_support_y"] = episode.support_y[:, 0]
        data[f"{name}_query_x"] = episode.query_x[0]
    np.savez(folder / "data.npz", **data)
    arguments = [finished_run.path / "export", folder / "data.npz", folder / "results.npz"]
    # -I: neither the working directory nor PYTHONPATH is searched.
    process = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, *map(str, arguments)], cwd=folder, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    with np.load(folder / "results.npz") as results:
        return dict(results)


@pytest.mark.parametrize(("name", "batch_size"), [("one", 1), ("many", 32)])
def test_saved_model_learns_as_the_library_does(name, batch_size, strangers_results, finished_run):
    _, _, learner = modes.load(finished_run.path)
    episode = episodes(batch_size)
    born = learner.initial_state(1)
    grown = lifetime.run(learner, episode).state
    before, after = (learner.predict(state, learner.encode(episode.query_x))[0] for state in (born, grown))
    for i, (slow, fast) in enumerate(zip(born, grown)):
        learned = strangers_results[f"{name}_fast_{i}"]
        assert np.max(np.abs(learned - slow[0])) > 1e-3, "the lifetime changes these weights"
        np.testing.assert_allclose(learned, fast[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(strangers_results[f"{name}_before"], before, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(strangers_results[f"{name}_after"], after, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(strangers_results[f"{name}_reset"], strangers_results[f"{name}_before"])
    assert np.max(np.abs(after - before)) > 1e-2


def gradient_learner():
    config = Config(num_sines=2, network="8-8", method="gradient", inner_rate=0.05).resolve()
    return learners.build(config, Sine(num_sines=2, steps=STEPS))


def convolutional_learner():
    def options(is_output):
        feedback = None if is_output else DirectFeedback(3)
        return {"feedback": feedback, "plasticity_init": 1.0, "plasticity_scale": 0.01}

    network = Network(parse("c4s2-c4-8"), (12, 12, 1), 3, 3, options)
    return FeedbackLearner(network, signal="target", clamp_output=True)


@pytest.mark.parametrize("make", [gradient_learner, convolutional_learner])
@pytest.mark.parametrize("batch_size", [1, 32])
def test_every_kind_of_learner_is_exported(make, batch_size, tmp_path):
    tf.random.set_seed(0)
    learner = make()
    shape, outputs = learner.network.example_shape, learner.network.head[-1].units
    x = tf.random.uniform([3, batch_size, *shape])
    y = tf.one_hot(tf.random.uniform([3, batch_size], maxval=outputs, dtype=tf.int32), outputs)
    expected = learner.initial_state()
    for t in range(3):
        expected = learner.learn(expected, learner.encode(x[t]), y[t])
    export(learner, tmp_path / "export")
    model = tf.saved_model.load(str(tmp_path / "export"))
    for t in range(3):
        model.learn(x[t], y[t])
    for fast, ours, slow in zip(model.fast, expected, learner.initial_state()):
        np.testing.assert_allclose(fast, ours, rtol=1e-5, atol=1e-6)
        assert np.max(np.abs(fast - slow)) > 1e-3
    np.testing.assert_allclose(
        model.predict(x[0]), learner.predict(expected, learner.encode(x[0])), rtol=1e-5, atol=1e-6
    )
