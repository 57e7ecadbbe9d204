"""Interruption, resumption, and meta-gradients that are not finite."""

import json
import re
import shutil
import signal

import commands
import numpy as np
import pytest
import tensorflow as tf
from commands import TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flp_tf import learners, modes
from flp_tf.config import Config
from flp_tf.meta import trainer as trainer_module
from flp_tf.meta.checkpoints import Checkpoints
from flp_tf.meta.trainer import Diverged, Trainer
from flp_tf.tasks import TASKS, Sine

STEPS = 6
CONFIG = Config(
    num_sines=2,
    network="8-8",
    lifetime=8,
    batch_size=4,
    query_size=4,
    episodes=STEPS,
    slow_rate=0.01,
    feedback_rate=0.01,
    plasticity_rate=0.01,
    strength_rate=0.01,
    plasticity_scale=1e-3,
    plasticity_init=1.0,
    max_skipped=3,
    jit_compile=False,
)


def make_trainer(**changes) -> Trainer:
    config = Config(**{**CONFIG.to_dict(), **changes}).resolve()
    task = TASKS[config.task].from_config(config)
    return Trainer(config, task, learners.build(config, task))


def values(trainer: Trainer) -> list[np.ndarray]:
    return [variable.numpy() for variable in trainer.variables]


def assert_bitwise_equal(ours, theirs) -> None:
    assert len(ours) == len(theirs)
    for i, (a, b) in enumerate(zip(ours, theirs)):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, err_msg=f"variable {i}")


OUTER_LOOPS = {
    "schedule and clipping": {"schedule": "cosine", "warmup_steps": 2, "clip_norm": 0.5},
    "meta-batch and curriculum": {"meta_batch": 2, "episodes": 2 * STEPS, "curriculum": "4:4"},
}


@pytest.mark.parametrize("loop", OUTER_LOOPS)
def test_resumed_trainer_is_bitwise_the_uninterrupted_one(loop, tmp_path):
    whole = make_trainer(**OUTER_LOOPS[loop])
    metrics = [whole.outer_step() for _ in range(STEPS)]
    first = make_trainer(**OUTER_LOOPS[loop])
    resumed_metrics = [first.outer_step() for _ in range(3)]
    Checkpoints(tmp_path, first.variables).save(first.step)
    second = make_trainer(**OUTER_LOOPS[loop])
    assert Checkpoints(tmp_path, second.variables).restore()
    resumed_metrics += [second.outer_step() for _ in range(3)]
    assert resumed_metrics == metrics
    assert_bitwise_equal(values(second), values(whole))
    assert len({row["loss"] for row in metrics}) == STEPS


def test_another_seed_is_another_run():
    losses = [make_trainer(seed=seed).outer_step()["loss"] for seed in (0, 1)]
    assert losses[0] != losses[1]


def checkpoint(path) -> list[np.ndarray]:
    """Returns the variables of the newest checkpoint of a run, but for the time it took."""
    newest = max((path / "checkpoints").glob("*.index"), key=lambda index: int(index.stem.split("-")[1]))
    reader = tf.train.load_checkpoint(str(newest.with_suffix("")))
    names = sorted(name for name in reader.get_variable_to_shape_map() if name.startswith("variables/"))
    values = [reader.get_tensor(name) for name in names]
    return [value for value in values if value.dtype != np.float64]


def losses(path) -> dict[int, float]:
    """Returns the query losses in all event files of a run, by lifetime."""
    found = {}
    for file in sorted(path.glob("events*"), key=lambda file: file.stat().st_mtime):
        accumulator = EventAccumulator(str(file), {"tensors": 0})
        accumulator.Reload()
        for event in accumulator.Tensors("query/loss") if "query/loss" in accumulator.Tags()["tensors"] else ():
            assert event.step not in found, "a lifetime is logged once"
            found[event.step] = float(tf.make_ndarray(event.tensor_proto))
    return found


def stop(process, number: int) -> tuple[str, str]:
    """Sends a signal to a training process once it has evaluated."""
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith("lifetime "):
            break
    process.send_signal(number)
    out, err = process.stdout.read(), process.stderr.read()
    assert process.wait(timeout=60) == 128 + number, err
    return "".join(seen) + out, err


def test_processes_stopped_by_signals_end_where_an_undisturbed_one_does(tmp_path):
    flags = [*TINY, "--episodes=30", "--eval_every=5", "--log_every=1", "--checkpoint_minutes=60"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    done = 0
    for number in (signal.SIGTERM, signal.SIGINT):
        out, err = stop(commands.start(*flags, f"--logdir={stopped}"), number)
        match = re.search(r"Stopped after (\d+) lifetimes and saved; the same command continues\.", out)
        assert match and done < int(match[1]) < 30
        if done:
            assert f"Continuing {stopped} after {done} lifetimes." in out
        assert "Traceback" not in err and "query_loss=" in err
        done = int(match[1])
        assert not (stopped / "result.json").exists()
    commands.run(*flags, f"--logdir={stopped}")
    commands.run(*flags, f"--logdir={whole}")
    assert losses(stopped) == losses(whole)
    assert list(losses(whole)) == list(range(1, 31))
    assert_bitwise_equal(checkpoint(stopped), checkpoint(whole))
    results = [json.loads((path / "result.json").read_text()) for path in (stopped, whole)]
    assert results[0] | {"minutes": 0} == results[1] | {"minutes": 0}


def test_interrupted_run_ends_like_the_finished_one(interrupted_run, finished_run, tmp_path):
    path = shutil.copytree(interrupted_run, tmp_path / "run")
    assert {file.stem for file in (path / "checkpoints").glob("*.index")} == {"ckpt-1", "ckpt-2", "ckpt-3"}
    commands.run(*TINY, f"--logdir={path}")
    assert_bitwise_equal(checkpoint(path), checkpoint(finished_run.path))


def test_interruption_of_the_last_step_leaves_before_the_meta_test(monkeypatch, tmp_path):
    outer_step = Trainer.outer_step

    def interrupted(trainer):
        if trainer.step == 5:
            signal.raise_signal(signal.SIGINT)
        return outer_step(trainer)

    monkeypatch.setattr(Trainer, "outer_step", interrupted)
    with pytest.raises(SystemExit) as stopped:
        commands.run(*TINY, f"--logdir={tmp_path / 'run'}")
    assert stopped.value.code == 128 + signal.SIGINT
    assert not (tmp_path / "run" / "result.json").exists()
    commands.run(*TINY, f"--logdir={tmp_path / 'run'}")
    assert (tmp_path / "run" / "result.json").exists()


def test_ctrl_c_outside_meta_training_leaves_without_a_traceback(monkeypatch, run_copy, capsys):
    monkeypatch.setattr(modes, "table", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit) as stopped:
        commands.run("--mode=evaluate", f"--logdir={run_copy}")
    assert stopped.value.code == 128 + signal.SIGINT
    assert "interrupted" in capsys.readouterr().err


def test_second_signal_is_not_held_back(monkeypatch, tmp_path):
    def impatient(trainer):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second Ctrl-C was held back")

    monkeypatch.setattr(Trainer, "outer_step", impatient)
    with pytest.raises(SystemExit) as stopped:
        commands.run(*TINY, f"--logdir={tmp_path / 'run'}")
    assert stopped.value.code == 128 + signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


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
    compiled_meta_gradient = trainer_module.compiled_meta_gradient

    def spoiling(*arguments):
        meta_gradient = compiled_meta_gradient(*arguments)

        def spoilt(episode):
            result = meta_gradient(episode)
            last = result.gradients[-1] * tf.where(spoiled, np.nan, 1.0)
            return result._replace(gradients=[*result.gradients[:-1], last])

        return spoilt

    monkeypatch.setattr(trainer_module, "compiled_meta_gradient", spoiling)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_non_finite_meta_gradients_are_skipped_and_counted(what, monkeypatch):
    spoiled = tf.Variable(False)
    if what == "loss":
        spoil_episodes(monkeypatch, lambda index: spoiled)
    else:
        spoil_gradients(monkeypatch, spoiled)
    trainer = make_trainer()
    first_counter = len(trainer.learner.network.weights)
    for step in range(4):
        spoiled.assign(step == 2)
        before = values(trainer)
        metrics = trainer.outer_step()
        changed = [i for i, (a, b) in enumerate(zip(before, values(trainer))) if not np.array_equal(a, b)]
        counters = [int(counter.numpy()) for counter in trainer.counters]
        assert metrics["skipped"] == (step == 2)
        assert np.isfinite(metrics["loss"]) == (step != 2 or what == "gradient")
        if step == 2:
            assert changed == [first_counter, first_counter + 1, first_counter + 2]
            assert counters == [3, 1, 1]
        else:
            assert len(changed) > first_counter
            assert counters == [step + 1, int(step > 2), 0]
    assert all(np.all(np.isfinite(value)) for value in values(trainer))


def test_skipping_stops_after_many_in_a_row_only(monkeypatch):
    # Two in three, then all from the tenth.
    spoil_episodes(monkeypatch, lambda index: tf.logical_or(index >= 9, index % 3 < 2))
    trainer = make_trainer(episodes=12)
    for _ in range(11):
        trainer.outer_step()
    assert [int(counter.numpy()) for counter in trainer.counters] == [11, 8, 2]
    with pytest.raises(Diverged, match="3 meta-gradients in a row were not finite, .* the last was at lifetime 12"):
        trainer.outer_step()


def test_diverged_run_exits_with_advice_that_names_the_flags(monkeypatch, tmp_path):
    path = tmp_path / "run"
    spoil_episodes(monkeypatch, lambda index: tf.greater(index, 1))
    with pytest.raises(SystemExit) as stopped:
        commands.run(*TINY, "--max_skipped=3", f"--logdir={path}")
    line = stopped.value.code
    assert isinstance(line, str) and line.startswith("flp_tf: ") and "\n" not in line
    for flag in ("--plasticity_rate=0.01", "--plasticity_scale=0.001", "--slow_rate=0.01", "--clip_norm=1"):
        assert flag in line
    assert not (path / "result.json").exists()
    # The newest checkpoint is from before the run gave up.
    assert {file.stem for file in (path / "checkpoints").glob("*.index")} == {"ckpt-2", "ckpt-3", "ckpt-4"}
