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
    """What it is, and how far it came, though it ends before the first point."""
    spoil_episodes(monkeypatch, lambda index: tf.greater(index, 1))
    with pytest.raises(SystemExit) as stopped:
        commands.run(*SHORT, "--max_skipped=2", "--log_every=50", f"--logdir={tmp_path}")
    found = tensors(tmp_path)
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
        with pytest.raises(SystemExit, match="flp_tf: none of the 6 meta-gradients was finite"):
            commands.run(*SHORT, f"--logdir={tmp_path}")
        assert not (tmp_path / "result.json").exists()
    found = tensors(tmp_path)
    assert text_of(found["diverged"]).startswith("none of the 6 meta-gradients was finite")
    assert [event.step for event in found["query/loss"]] == [2, 4, 6], "no point twice"


def test_errors_that_are_not_finite_are_null_in_result_json_with_a_reason(monkeypatch, run_copy, capsys):
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
