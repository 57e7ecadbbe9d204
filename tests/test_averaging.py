"""The mean of the outer iterates: its values, and that it is what is evaluated, saved and exported."""

import commands
import numpy as np
import pytest
import tensorflow as tf
from helpers import build_learner
from trainers import CONFIG, make_trainer

import flp_tf
from flp_tf.meta.averaging import Average
from flp_tf.runs.checkpoints import Checkpoints

pytestmark = pytest.mark.slow

# Another optimizer for each group, and the running mean that is tested.
MIXED = {
    "segment_length": -1,
    "slow_optimizer": "muon",
    "feedback_optimizer": "adamw",
    "plasticity_optimizer": "lion",
    "weight_decay": 0.1,
    "average": 0.75,
}


def trainer_of(**changes):
    return make_trainer(**MIXED | changes)


def weights_of(trainer):
    return {path: weight.numpy() for path, weight in trainer.learner.trainable.items()}


def test_the_mean_is_that_of_all_iterates_first_and_exponential_then():
    weights = build_learner().trainable
    average, rng, iterates = Average(weights, 0.75), np.random.default_rng(0), []
    for t in range(1, 8):
        for weight in weights.values():
            weight.assign(rng.normal(size=weight.shape))
        iterates.append({path: weight.numpy() for path, weight in weights.items()})
        average.update()
        for path, mean in average.means.items():
            if t <= 4:
                expected = np.mean([iterate[path] for iterate in iterates], 0)
            else:  # Steps after the fourth have weights 1/4, 3/16, ...
                first = np.mean([iterate[path] for iterate in iterates[:4]], 0)
                later = [0.25 * 0.75 ** (t - s) * iterates[s - 1][path] for s in range(5, t + 1)]
                expected = 0.75 ** (t - 4) * first + np.sum(later, 0)
            np.testing.assert_allclose(mean.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_the_mean_is_in_use_for_a_while_only(eager):
    trainer = trainer_of(lifetime=2)
    for _ in range(3):
        trainer.outer_step()
    iterate = weights_of(trainer)
    with trainer.averaged():
        inside = weights_of(trainer)
    for path, value in weights_of(trainer).items():
        np.testing.assert_array_equal(value, iterate[path])
        np.testing.assert_array_equal(inside[path], trainer.average.means[path].numpy())
    assert any(np.any(inside[path] != iterate[path]) for path in inside)


def test_training_is_the_same_as_without_and_so_is_what_is_resumed(eager, tmp_path):
    plain, whole, second = (trainer_of(lifetime=2, average=average) for average in (0.0, 0.75, 0.75))
    for step in range(6):
        plain.outer_step()
        whole.outer_step()
        if step == 2:
            Checkpoints(tmp_path, whole.variables).save(3)
    for path, value in weights_of(plain).items():
        np.testing.assert_array_equal(value, weights_of(whole)[path])
    assert Checkpoints(tmp_path, second.variables).restore() == 3
    for _ in range(3):
        second.outer_step()
    assert second.variables.keys() == whole.variables.keys()
    for name, variable in second.variables.items():
        np.testing.assert_array_equal(variable.numpy(), whole.variables[name].numpy(), err_msg=name)


def test_a_skipped_step_is_not_in_the_mean(eager, monkeypatch):
    trainer = trainer_of(lifetime=2, slow_rate=0.1)
    trainer.outer_step()
    before = {path: mean.numpy() for path, mean in trainer.average.means.items()}
    monkeypatch.setattr("flp_tf.meta.trainer.MOST_LOSS", -1.0)
    assert trainer.outer_step()["skipped"] and trainer.average.count.numpy() == 1
    for path, value in before.items():
        np.testing.assert_array_equal(trainer.average.means[path].numpy(), value)


def test_a_run_is_evaluated_loaded_and_exported_with_the_mean(eager, tmp_path):
    config = flp_tf.configure(**CONFIG | MIXED | {"lifetime": 2}, eval_episodes=2)
    run = flp_tf.meta_train(config, tmp_path, progress=False)
    newest = np.load(tmp_path / "checkpoints" / "ckpt-6.npz")
    loaded = flp_tf.load(tmp_path)
    for path, weight in run.learner.trainable.items():
        np.testing.assert_array_equal(weight.numpy(), newest[f"learner/{path}"])
        np.testing.assert_array_equal(weight.numpy(), loaded.learner.trainable[path].numpy())
    slow = [
        path for path in run.learner.groups()["slow"] if np.any(newest[f"iterate/{path}"] != newest[f"learner/{path}"])
    ]
    assert slow, "the last iterate is another"
    exported = tf.saved_model.load(str(tmp_path / "export"))
    for path, weight in exported.weights.items():
        np.testing.assert_array_equal(weight.numpy(), newest[f"learner/{path}"])
    commands.run("--mode=evaluate", f"--logdir={tmp_path}")
    first, again = (commands.meta_test(tmp_path / name) for name in ("result.json", "evaluation.json"))
    assert first["mean"] == pytest.approx(again["mean"], rel=1e-6)


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_another_decay_is_refused(value):
    with pytest.raises(flp_tf.errors.InputError, match="--average"):
        flp_tf.configure(**CONFIG | MIXED | {"average": value})
