"""Meta-gradients and errors that are not finite."""

import json
import math

import commands
import numpy as np
import pytest
import tensorflow as tf
from commands import SHORT, TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainers import make_trainer, values

import flp_tf
from flp_tf.meta import trainer as trainer_module
from flp_tf.meta.trainer import Diverged
from flp_tf.tasks import Sine

pytestmark = pytest.mark.slow

COUNTERS = ("outer/steps", "outer/skipped", "outer/skipped_in_a_row")


def spoil_episodes(monkeypatch, spoiled) -> None:
    """Makes the meta-training lifetimes of which `spoiled(index)` infinite."""
    sample = Sine.sample

    def spoiling(task, seed, index, count, split):
        episode = sample(task, seed, index, count, split)
        if split != "train":
            return episode
        factor = tf.where(spoiled(index), np.inf, 1.0)
        return episode._replace(query_y=tf.ensure_shape(episode.query_y * factor, episode.query_y.shape))

    monkeypatch.setattr(Sine, "sample", spoiling)


def spoil_gradients(monkeypatch, spoiled: tf.Variable) -> None:
    """Makes the meta-gradient of one weight NaN, with a finite loss, while `spoiled`."""
    compiled_estimate = trainer_module.compiled_estimate

    def spoiling(*arguments):
        estimate = compiled_estimate(*arguments)

        def spoilt(episode, seed):
            found = estimate(episode, seed)
            gradients = {group: dict(weights) for group, weights in found.gradients.items()}
            group = max(gradients)
            path = max(gradients[group])
            gradients[group][path] *= tf.where(spoiled, np.nan, 1.0)
            return found._replace(gradients=gradients)

        return spoilt

    monkeypatch.setattr(trainer_module, "compiled_estimate", spoiling)


def tensors(folder) -> dict[str, list]:
    """Returns the events of a run by tag."""
    events = EventAccumulator(str(folder), {"tensors": 0}).Reload()
    return {tag: events.Tensors(tag) for tag in events.Tags()["tensors"]}


def text_of(events) -> str:
    """Returns the first text of a tag."""
    return tf.make_ndarray(events[0].tensor_proto).item().decode()


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_non_finite_meta_gradients_are_skipped_and_counted(what, eager, monkeypatch):
    spoiled = tf.Variable(False)
    if what == "loss":
        spoil_episodes(monkeypatch, lambda index: spoiled)
    else:
        spoil_gradients(monkeypatch, spoiled)
    trainer = make_trainer(lifetime=2, segment_length=-1)
    for step in range(4):
        spoiled.assign(step == 2)
        before = values(trainer)
        metrics = trainer.outer_step()
        after = values(trainer)
        changed = {name for name in after if not np.array_equal(before[name], after[name])}
        counters = [int(after[name]) for name in COUNTERS]
        assert metrics["skipped"] == (step == 2)
        assert np.isfinite(metrics["loss"]) == (step != 2 or what == "gradient")
        if step == 2:
            assert changed == set(COUNTERS)
            assert counters == [3, 1, 1]
        else:
            assert {f"learner/{path}" for path in trainer.learner.trainable} <= changed
            assert counters == [step + 1, int(step > 2), 0]
    assert all(np.all(np.isfinite(value)) for value in values(trainer).values())


def test_skipping_stops_after_many_in_a_row_only(monkeypatch):
    # Two in three, then all from the tenth.
    spoil_episodes(monkeypatch, lambda index: tf.logical_or(index >= 9, index % 3 < 2))
    trainer = make_trainer(episodes=12, lifetime=2)
    for _ in range(11):
        trainer.outer_step()
    assert [int(values(trainer)[name]) for name in COUNTERS] == [11, 8, 2]
    with pytest.raises(Diverged, match="3 meta-gradients in a row were not finite, .* the last was at lifetime 12"):
        trainer.outer_step()


def test_advice_on_clipping_is_to_lower_what_is_set():
    assert make_trainer(clip_norm=0.5).advice().endswith(", or lower --clip_norm=0.5")
    assert make_trainer().advice().endswith(", or set --clip_norm=1")


def test_diverged_run_exits_with_advice_that_names_the_flags(bare, eager, monkeypatch, tmp_path):
    path = tmp_path / "run"
    spoil_episodes(monkeypatch, lambda index: tf.greater(index, 1))
    with pytest.raises(SystemExit) as stopped:
        commands.run(*SHORT, "--max_skipped=3", f"--logdir={path}")
    line = stopped.value.code
    assert isinstance(line, str) and line.startswith("flp_tf: ") and "\n" not in line
    for flag in ("--plasticity_rate=0.01", "--slow_rate=0.01", "--clip_norm=1", "another --logdir"):
        assert flag in line
    assert not (path / "result.json").exists()
    # The newest checkpoint is from before the run gave up.
    assert {file.stem for file in (path / "checkpoints").iterdir()} == {"ckpt-2", "ckpt-3", "ckpt-4"}


def test_a_run_that_diverges_early_is_in_tensorboard(bare, eager, monkeypatch, tmp_path):
    """What it is, and how far it came, though it ends before the first point. It can be loaded, and diverges again."""
    spoil_episodes(monkeypatch, lambda index: tf.greater(index, 1))
    command = [*SHORT, "--max_skipped=2", "--log_every=50", "--checkpoint_minutes=60", f"--logdir={tmp_path}"]
    with pytest.raises(SystemExit) as stopped:
        commands.run(*command)
    found = tensors(tmp_path)
    loaded = flp_tf.load(tmp_path)
    assert loaded.progress()["episodes"] == 4
    assert all(np.all(np.isfinite(weight.numpy())) for weight in loaded.learner.trainable.values())
    # Whatever comes after the bad steps.
    spoil_episodes(monkeypatch, lambda index: tf.less(index, 0))
    with pytest.raises(SystemExit, match="2 meta-gradients in a row were not finite.*at lifetime 4;"):
        commands.run(*command)
    assert [event.step for event in found["diverged"]] == [4]
    assert stopped.value.code == f"flp_tf: {text_of(found['diverged'])}"
    assert "flp(2) on sine" in text_of(found["run"])
    assert [event.step for event in found["query/loss"]] == [4]
    assert np.isfinite(tf.make_ndarray(found["query/loss"][0].tensor_proto)), "the mean of the two good steps"
    assert tf.make_ndarray(found["outer/skipped_steps"][0].tensor_proto) == 2


def test_a_run_without_one_finite_meta_gradient_has_no_result(bare, eager, monkeypatch, tmp_path):
    """Though there are fewer steps than --max_skipped, it exits with a line and a number."""
    spoil_episodes(monkeypatch, lambda index: tf.greater_equal(index, 0))
    for _ in range(2):
        # No rate can be the cause.
        advice = (
            "it was so from the first lifetime on: lower --plasticity_init=1 and --output_plasticity_init=1, and name"
        )
        with pytest.raises(SystemExit, match=f"flp_tf: none of the 4 meta-gradients was finite.*; {advice}"):
            commands.run(*SHORT, "--episodes=4", f"--logdir={tmp_path}")
        assert not (tmp_path / "result.json").exists()
    found = tensors(tmp_path)
    assert text_of(found["diverged"]).startswith("none of the 4 meta-gradients was finite")
    assert [event.step for event in found["query/loss"]] == [2, 4], "no point twice"


def test_errors_that_are_not_finite_are_null_in_result_json_with_a_reason(eager, monkeypatch, run_copy, capsys):
    sample = Sine.sample

    def spoiling(task, seed, index, count, split):
        episode = sample(task, seed, index, count, split)
        return episode._replace(query_y=episode.query_y * (math.nan if split == "test" else 1.0))

    monkeypatch.setattr(Sine, "sample", spoiling)
    for arguments, name in ((TINY, "result.json"), (["--mode=evaluate"], "evaluation.json")):
        with pytest.raises(SystemExit, match="flp_tf: the error on unseen data is not a finite number"):
            commands.run(*arguments, f"--logdir={run_copy}")
        content = json.loads((run_copy / name).read_text(), parse_constant=pytest.fail)
        assert content["meta_test"] == {"mean": None, "stderr": None, "episodes": 10}
        assert content["diverged"] == "the error on unseen data is not a finite number"
    assert "Meta-test" not in capsys.readouterr().out


# A weight, two of whose entries the function below spoils.
SPOILT = "network/layers/layer_0/kernel"


def spoil_entries(monkeypatch, spoiled: tf.Variable, entries: list[float]) -> None:
    """Makes the first entries of the meta-gradient of `SPOILT` other numbers while `spoiled`."""
    compiled_estimate = trainer_module.compiled_estimate

    def spoiling(*arguments):
        estimate = compiled_estimate(*arguments)

        def spoilt(episode, seed):
            found = estimate(episode, seed)
            slow = dict(found.gradients["slow"])
            other = tf.tensor_scatter_nd_update(slow[SPOILT], [[0, 0], [0, 2]], entries)
            slow[SPOILT] = tf.where(spoiled, other, slow[SPOILT])
            return found._replace(gradients={**found.gradients, "slow": slow})

        return spoilt

    monkeypatch.setattr(trainer_module, "compiled_estimate", spoiling)


def test_zero_takes_the_step_with_what_is_finite(monkeypatch, eager):
    """As often as it has to, while losses are finite: the step, also clipped, of the same gradient with zeros there."""
    spoiled, found = tf.Variable(False), []
    for entries in ([math.nan, math.inf], [0.0, 0.0]):
        with monkeypatch.context() as patch:
            spoil_entries(patch, spoiled, entries)
            trainer = make_trainer(lifetime=2, non_finite="zero", clip_norm=0.5, average=0.5)
            for step in range(3):
                spoiled.assign(step > 0)
                assert trainer.outer_step()["skipped"] == (step > 0 and entries != [0, 0])
            assert trainer.average.count.numpy() == 3
            found.append(values(trainer))
    assert [[int(of_run[name]) for name in COUNTERS] for of_run in found] == [[3, 2, 0], [3, 0, 0]]
    for name, array in found[1].items():
        if name not in ("outer/skipped", "outer/seconds"):
            np.testing.assert_array_equal(found[0][name], array, err_msg=name)


def test_zero_stops_after_many_infinite_losses_in_a_row_only(monkeypatch, eager):
    """Weights stay finite meanwhile."""
    spoil_episodes(monkeypatch, lambda index: tf.logical_or(index >= 4, index % 3 < 2))
    trainer = make_trainer(lifetime=2, episodes=12, non_finite="zero")
    for _ in range(5):
        trainer.outer_step()
    assert [int(values(trainer)[name]) for name in COUNTERS] == [5, 4, 2]
    with pytest.raises(Diverged, match="3 losses in a row were not finite, .* the last was at lifetime 6"):
        trainer.outer_step()
    assert all(np.all(np.isfinite(value)) for value in values(trainer).values())


def test_zero_with_several_updates_a_lifetime(monkeypatch, eager):
    """Each is applied; those of an infinite loss move the weights by momentum alone."""
    spoil_episodes(monkeypatch, lambda index: tf.equal(index, 1))
    trainer = make_trainer(lifetime=2, non_finite="zero", estimator="pes", pairs=1, unrolls=2)
    assert [trainer.outer_step()["skipped"] for _ in range(2)] == [0, 1]
    assert [int(values(trainer)[name]) for name in COUNTERS] == [2, 1, 1]
    assert int(trainer.optimizers.optimizers["slow"].iterations) == 4
    assert all(np.all(np.isfinite(value)) for value in values(trainer).values())


def test_what_zero_did_is_in_tensorboard_and_in_the_result(bare, eager, monkeypatch, tmp_path):
    spoil_episodes(monkeypatch, lambda index: tf.equal(index, 1))
    short = ("--lifetime=2", "--episodes=3", "--log_every=1", "--eval_episodes=2")
    commands.run(*TINY, *short, "--non_finite=zero", f"--logdir={tmp_path}")
    found = tensors(tmp_path)
    assert "outer/skipped_steps" not in found
    assert [int(tf.make_ndarray(event.tensor_proto)) for event in found["outer/non_finite_steps"]] == [0, 1, 1]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["non_finite_steps"] == 1 and "skipped_steps" not in result


def test_a_norm_beyond_float32_is_clipped_to_something_finite():
    trainer = make_trainer(clip_norm=1.0)
    huge = tf.nest.map_structure(lambda weight: tf.fill(weight.shape, 1e30), trainer.optimizers.groups)
    trainer.optimizers.apply(huge)
    assert all(np.all(np.isfinite(value)) for value in values(trainer).values())
