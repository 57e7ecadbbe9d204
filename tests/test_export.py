"""The SavedModel: it learns online in a process that has no flp_tf."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from commands import contents

import flp_tf
from flp_tf import learners, lifetime
from flp_tf.errors import InputError
from flp_tf.export import OnlineLearner, export
from flp_tf.learners.base import Learner
from flp_tf.tasks import Sine

pytestmark = pytest.mark.slow

STEPS = 8

# Runs where there is no flp_tf: reads support and query data, lives two lifetimes.
STRANGER = """
import sys
sys.modules["flp_tf"] = None  # Any import of it fails.
import keras
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
        for layer, state in model.state.items():
            results[f"{name}_{layer}"] = state["kernel"].numpy()
        model.reset()
        results[f"{name}_reset"] = model.predict(query_x)
for path, weight in model.weights.items():
    results[f"weight {path}"] = weight.numpy()
assert not any(name.partition(".")[0] == "flp_tf" for name, module in sys.modules.items() if module)
np.savez(sys.argv[3], **results)
"""


def episodes(batch_size: int):
    task = Sine(num_sines=2, lifetime=STEPS, batch_size=batch_size, query_size=5, continual=True)
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
    learner = flp_tf.load(finished_run.path).learner
    episode = episodes(batch_size)
    born = learner.initial_state(episode.seed)
    grown = lifetime.run(learner, episode).state
    before, after = (learner.predict(state, learner.encode(episode.query_x))[0] for state in (born, grown))
    assert len(born) == 2
    for layer in born:
        slow, fast = (state[layer]["kernel"] for state in (born, grown))
        learned = strangers_results[f"{name}_{layer}"]
        assert np.max(np.abs(learned - slow)) > 1e-3, "the lifetime changes these weights"
        np.testing.assert_allclose(learned, fast, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(strangers_results[f"{name}_before"], before, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(strangers_results[f"{name}_after"], after, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(strangers_results[f"{name}_reset"], strangers_results[f"{name}_before"])
    assert np.max(np.abs(after - before)) > 1e-2


def test_every_variable_of_the_learner_is_in_the_saved_model(strangers_results, finished_run):
    variables = flp_tf.load(finished_run.path).learner.variables
    saved = {name.removeprefix("weight "): value for name, value in strangers_results.items() if "weight " in name}
    assert saved.keys() == variables.keys()
    for path, value in saved.items():
        np.testing.assert_array_equal(value, variables[path].numpy())


class Momentum(Learner):
    """Gradient descent with momentum on a linear layer of its own, in a state that is nested and counts."""

    def __init__(self, network):
        super().__init__(network)
        self.decay = keras.Variable(0.5)

    @classmethod
    def from_options(cls, task, options, parts, dtype="float32"):
        raise NotImplementedError

    def initial_state(self, seeds=None):
        weights = tf.zeros([seeds.shape[0], self.network.feature_shape[0], 1])
        return {"now": (weights, {"trace": weights}), "steps": tf.zeros([seeds.shape[0]], tf.int32)}

    def learn(self, state, features, y):
        weights, traces = state["now"]
        error = features @ weights - y
        trace = self.decay * traces["trace"] - 0.05 * tf.linalg.matmul(features, error, transpose_a=True)
        return {"now": (weights + trace, {"trace": trace}), "steps": state["steps"] + 1}

    def predict(self, state, features):
        return features @ state["now"][0]


def flp_learner(**flags):
    config = flp_tf.configure(num_sines=2, lifetime=STEPS, network="8-8", **flags)
    return learners.build(config, config.make_task())


def gradient_learner():
    return flp_learner(method="gradient", inner_rate=0.05)


def momentum_learner():
    return Momentum(flp_learner().network)


class Images:
    """What a learner sees of a task with images."""

    input_shape, num_outputs, loss = (12, 12, 1), 3, None


def convolutional_learner():
    options = {"ways": 3, "network": "c4s2-c4-8", "num_plastic_layers": 3, "plasticity_scale": 0.01}
    options |= {"plasticity_init": 1.0, "output_plasticity_init": 1.0, "hidden_plasticity_factor": 1.0}
    return learners.build(flp_tf.configure(task="omniglot", **options), Images())


@pytest.mark.parametrize("make", [gradient_learner, convolutional_learner, momentum_learner])
def test_every_kind_of_learner_is_exported(make, tmp_path):
    """One SavedModel learns from batches of one, and, after a reset, of 32."""
    learner = make()
    export(learner, tmp_path / "export")
    model = tf.saved_model.load(str(tmp_path / "export"))
    for batch_size in (1, 32):
        model.reset()
        learns_as(learner, model, batch_size)


def learns_as(learner, model, batch_size):
    """Checks that a SavedModel does in three inner steps what its learner does."""
    shape, outputs = learner.network.example_shape, learner.network.head[-1].units
    rng = np.random.default_rng(0)
    x = rng.uniform(size=[3, batch_size, *shape]).astype(np.float32)
    y = np.eye(outputs, dtype=np.float32)[rng.integers(outputs, size=[3, batch_size])]
    initial = expected = learner.initial_state(tf.zeros([1, 2], tf.int32))
    for t in range(3):
        expected = learner.learn(expected, learner.encode(x[t][None]), y[t][None])
        model.learn(x[t], y[t])
    ours, theirs, slow = (tf.nest.flatten(state) for state in (expected, model.state, initial))
    assert len(ours) == len(theirs)
    for one, other, before in zip(ours, theirs, slow):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)
        assert np.max(np.abs(one - before)) > 1e-3
    prediction = learner.predict(expected, learner.encode(x[:1]))[0]
    np.testing.assert_allclose(model.predict(x[0]), prediction, rtol=1e-5, atol=1e-6)


def test_an_online_learner_is_of_use_without_a_file():
    online = OnlineLearner(gradient_learner())
    episode = episodes(4)
    before = online.predict(episode.query_x[0]).numpy()
    online.learn(episode.support_x[0, 0], episode.support_y[0, 0])
    assert np.max(np.abs(online.predict(episode.query_x[0]) - before)) > 1e-3
    online.reset()
    np.testing.assert_array_equal(online.predict(episode.query_x[0]), before)


def test_an_earlier_export_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "export"
    export(gradient_learner(), path)
    (path / "fingerprint.pb").write_text("of the earlier one")
    export(gradient_learner(), path)
    assert (path / "fingerprint.pb").read_bytes() != b"of the earlier one"
    assert [child.name for child in tmp_path.iterdir()] == ["export"]
    model = tf.saved_model.load(str(path))
    model.reset()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_saved_model_is_not_replaced(kind, tmp_path):
    path = tmp_path / "export"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
        (path / "mine").write_text("mine")
    else:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "saved_model.pb").write_text("mine")
        path.symlink_to(tmp_path / "mine")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="export is in the way: it is not a SavedModel"):
        export(gradient_learner(), path)
    assert contents(tmp_path) == before
