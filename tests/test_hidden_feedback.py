"""Feedback to the output alone: what layers below it lack. Their steps are compared with NumPy in tests of feedback."""

import itertools

import analysis_runs as tiny
import numpy as np
import pytest
import tensorflow as tf
from helpers import CLASSIFICATION, assert_close, build_learner, random_episode
from trainers import CONFIG, make_trainer

from flp_tf import lifetime
from flp_tf.component import group_of
from flp_tf.errors import InputError
from flp_tf.export import export
from flp_tf.runs.config import Config, configure
from flp_tf.runs.summaries import Summaries, read_scalars

OFF = {"hidden_feedback": False}


def of_pathways(learner):
    """Returns the paths of all weights of feedback pathways."""
    return {path for path in learner.variables if "/feedback/" in path}


@pytest.mark.parametrize("method", ["flp", "dfa", "recurrent"])
@pytest.mark.parametrize("feedback", ["direct", "plastic", "cascade"])
def test_only_the_output_has_a_pathway(method, feedback):
    """Its weights are those of a network whose output layer alone is plastic, and all others are the network's."""
    flags = {"method": method, "feedback": feedback}
    learner = build_learner(**flags, **OFF, num_plastic_layers=3)
    alone, whole = (build_learner(**flags, num_plastic_layers=depth) for depth in (1, 3))
    assert of_pathways(learner) == of_pathways(alone) < of_pathways(whole)
    assert learner.variables.keys() - of_pathways(learner) == whole.variables.keys() - of_pathways(whole)
    assert {group: set(paths) for group, paths in learner.groups().items()} == {
        group: {path for path in paths if path in learner.variables} for group, paths in whole.groups().items()
    }
    state = learner.initial_state()
    assert [name for name, part in state.items() if "feedback" in part] == ["layer_2"] * (feedback == "plastic")


def test_a_clamped_output_needs_no_feedback_at_all():
    learner = build_learner(CLASSIFICATION, clamp_output=True, **OFF)
    assert not of_pathways(learner) and {*map(group_of, learner.trainable)} == {"slow", "plasticity"}


@pytest.mark.parametrize("method", ["flp", "recurrent"])
def test_hidden_activity_is_the_forward_one(method, float64):
    learner = build_learner(method=method, num_plastic_layers=3, **OFF)
    episode = random_episode()
    state, x = learner.initial_state(episode.seed), episode.support_x[0]
    seen = learner.observe(state, x, episode.support_y[0])
    forward = learner.network.activities(state, x)[1:]
    assert_close(list(seen.post[:-1]), forward[:-1])
    assert np.max(np.abs(seen.post[-1] - forward[-1])) > 0.01


def test_no_strength_of_the_hidden_layers_is_the_same(float64):
    """The network with a pathway everywhere and beta = 0 below the output."""
    whole, learner = build_learner(num_plastic_layers=3), build_learner(num_plastic_layers=3, **OFF)
    for layer in whole.network.head[:-1]:
        layer.feedback.strength.assign(0.0)
    for path, weight in learner.variables.items():
        weight.assign(whole.variables[path])
    states = [lifetime.run(one, random_episode()).state for one in (whole, learner)]
    assert_close(*states)


def test_methods_with_hidden_layers_have_the_option():
    for method in ("flp", "dfa", "recurrent"):
        config = configure(method=method, **OFF)
        assert not config.hidden_feedback and configure(method=method).hidden_feedback
        older = {flag: value for flag, value in config.to_dict().items() if flag != "hidden_feedback"}
        assert Config.from_dict(older) == configure(method=method), "stored runs have feedback everywhere"
    for method in ("feature_reuse", "gradient", "oml"):
        with pytest.raises(InputError, match=f"^--hidden_feedback does not go with --method={method}; it goes with "):
            configure(method=method, **OFF)


def test_checkpoints_and_tensorboard(tmp_path):
    """Weights, moments of the optimizer and curves are those of the output's pathway alone."""
    flags = {"feedback": "plastic", "num_plastic_layers": 3, "network": "8-8", **OFF}
    trainer = make_trainer(**flags)
    names = [name for name in trainer.variables if "/feedback/" in name and name.count("/") > 2]
    assert names and all("/layers/layer_2/" in name for name in names)
    summaries = Summaries(tmp_path, trainer, configure(**CONFIG | flags))
    summaries.open(restored=False)
    summaries.point()
    summaries.flush()
    assert {tag for tag in read_scalars(tmp_path) if tag.startswith("beta/")} == {"beta/layer_2"}


@pytest.mark.slow
def test_the_saved_model_learns_as_the_library_does(tmp_path):
    run = tiny.sine_run(feedback="plastic", **OFF)
    episode = run.task.sample(3, tf.constant(0), 1, "test")
    outputs = lifetime.query(run.learner, lifetime.run(run.learner, episode).state, episode)[0]
    export(run.learner, tmp_path / "export")
    model = tf.saved_model.load(str(tmp_path / "export"))
    before = model.predict(episode.query_x[0])
    for x, y in zip(episode.support_x[:, 0], episode.support_y[:, 0]):
        model.learn(x, y)
    np.testing.assert_allclose(model.predict(episode.query_x[0]), outputs, rtol=1e-4, atol=1e-5)
    assert np.max(np.abs(outputs - before)) > 1e-3
    assert of_pathways(run.learner) == {path for path in model.weights if "/feedback/" in path}


@pytest.mark.slow
def test_analyses(eager, without_pictures, tmp_path):
    """Alignment, interference and update norms, the last against a loop in Python."""
    run = tiny.sine_run(**OFF)
    for name in ("alignment", "interference"):
        rows = tiny.table(tiny.analyze(name, [run], tmp_path).files[1])
        assert len(rows) == {"alignment": 12, "interference": 2}[name] and np.all(np.isfinite(tiny.column(rows)))
    rows = tiny.table(tiny.analyze("update_norms", [run], tmp_path).files[1])
    states = tiny.kernels(run)
    for i, layer in enumerate(("1 layer below the output", "output layer")):
        moved = np.stack([new[i] - old[i] for old, new in itertools.pairwise(states)])
        found = tiny.column(rows, layer=layer, quantity="update norm")
        np.testing.assert_allclose(found, np.linalg.norm(moved, axis=(2, 3)).mean(1), rtol=1e-3)
        assert np.all(found > 0)
