"""Interruption, resumption, and meta-gradients that are not finite."""

import json
import math
import re
import shutil
import signal
import threading

import commands
import numpy as np
import pytest
import tensorflow as tf
from commands import TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import flp_tf
from flp_tf import learners
from flp_tf.meta import trainer as trainer_module
from flp_tf.meta.trainer import Diverged, Trainer
from flp_tf.runs import results
from flp_tf.runs.checkpoints import Checkpoints
from flp_tf.runs.interruption import SIGNALS
from flp_tf.runs.training import make_trainer as trainer_of
from flp_tf.tasks import Sine

STEPS = 6
CONFIG = {
    "task": "sine",
    "num_sines": 2,
    "network": "8-8",
    "lifetime": 8,
    "batch_size": 4,
    "query_size": 4,
    "episodes": STEPS,
    "slow_rate": 0.01,
    "feedback_rate": 0.01,
    "plasticity_rate": 0.01,
    "strength_rate": 0.01,
    "plasticity_scale": 1e-3,
    "plasticity_init": 1.0,
    "output_plasticity_init": 1.0,
    "max_skipped": 3,
    "jit_compile": False,
}
COUNTERS = ("outer/steps", "outer/skipped", "outer/skipped_in_a_row")


def make_trainer(**changes) -> Trainer:
    config = flp_tf.configure(**CONFIG | changes)
    task = config.make_task()
    return trainer_of(config, task, learners.build(config, task))


def values(trainer: Trainer) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in trainer.variables.items()}


def assert_bitwise_equal(ours, theirs) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name, strict=True)


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


def checkpoint(path) -> dict[str, np.ndarray]:
    """Returns the variables of the newest checkpoint of a run, but for the time it took."""
    newest = max((path / "checkpoints").iterdir(), key=lambda file: int(file.stem.split("-")[1]))
    with np.load(newest) as content:
        return {name: content[name] for name in content if name != "outer/seconds"}


def scalars(path) -> dict[tuple[str, int], float]:
    """Returns the scalars in all event files of a run, by tag and lifetime, but for the speed."""
    found = {}
    for file in sorted(path.glob("events*"), key=lambda file: file.stat().st_mtime):
        accumulator = EventAccumulator(str(file), {"tensors": 0})
        accumulator.Reload()
        for tag in accumulator.Tags()["tensors"]:
            for event in accumulator.Tensors(tag):
                value = tf.make_ndarray(event.tensor_proto)
                if value.shape or not np.issubdtype(value.dtype, np.number) or tag == "outer/episodes_per_second":
                    continue
                assert (tag, event.step) not in found, "a lifetime is logged once"
                found[tag, event.step] = float(value)
    return found


def losses(path) -> dict[int, float]:
    """Returns the query losses in all event files of a run, by lifetime."""
    return {step: value for (tag, step), value in scalars(path).items() if tag == "query/loss"}


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
    assert scalars(stopped) == scalars(whole)
    assert list(losses(whole)) == list(range(1, 31))
    assert_bitwise_equal(checkpoint(stopped), checkpoint(whole))
    results = [json.loads((path / "result.json").read_text()) for path in (stopped, whole)]
    assert results[0] | {"minutes": 0} == results[1] | {"minutes": 0}


def test_interrupted_run_ends_like_the_finished_one(interrupted_run, finished_run, tmp_path):
    path = shutil.copytree(interrupted_run, tmp_path / "run")
    assert {file.stem for file in (path / "checkpoints").iterdir()} == {"ckpt-1", "ckpt-2", "ckpt-3"}
    commands.run(*TINY, f"--logdir={path}")
    assert_bitwise_equal(checkpoint(path), checkpoint(finished_run.path))


class Killed(BaseException):
    """In place of SIGKILL: nobody catches it, and nothing is saved."""


@pytest.mark.parametrize(("log_every", "saved"), [(1, [3]), (2, []), (3, [1]), (7, [1, 3, 4])])
def test_scalars_after_a_kill_are_those_of_an_undisturbed_run(saved, log_every, monkeypatch, tmp_path):
    """Killed in the sixth step, with checkpoints of some earlier steps and events of all."""
    flags = [*TINY, "--episodes=8", f"--log_every={log_every}"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    commands.run(*flags, f"--logdir={whole}")
    outer_step, save = Trainer.outer_step, Checkpoints.save

    def interrupted(trainer):
        if trainer.step == 5:
            raise Killed
        return outer_step(trainer)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "outer_step", interrupted)
        patch.setattr(Checkpoints, "save", lambda kept, step: save(kept, step) if step in saved else None)
        commands.run(*flags, f"--logdir={killed}")
    if log_every <= 3:
        assert max(step for _, step in scalars(killed)) > max(saved, default=0), "there are events to remove"
    commands.run(*flags, f"--logdir={killed}")
    assert scalars(killed) == scalars(whole)
    assert list(losses(whole)) == [step for step in range(1, 9) if step % log_every == 0 or step == 8]
    assert_bitwise_equal(checkpoint(killed), checkpoint(whole))


def test_a_really_killed_process_ends_where_an_undisturbed_one_does(tmp_path):
    flags = [*TINY, "--episodes=30", "--eval_every=5", "--log_every=3"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = commands.start(*flags, f"--logdir={killed}")
    assert any(line.startswith("lifetime 5") for line in process.stdout)
    process.kill()
    process.communicate()
    # What a process killed in the middle of an event and of a checkpoint leaves.
    events = max(killed.glob("events*"), key=lambda file: file.stat().st_mtime)
    events.write_bytes(events.read_bytes() + b"\x10\0\0")
    (killed / "checkpoints" / ".ckpt-9.npz.0123456789abcdef.partial").write_bytes(b"half")
    for path in (killed, whole):
        commands.run(*flags, f"--logdir={path}")
    assert scalars(killed) == scalars(whole)
    assert_bitwise_equal(checkpoint(killed), checkpoint(whole))
    assert {path.name for path in (killed / "checkpoints").iterdir()} == {f"ckpt-{step}.npz" for step in (28, 29, 30)}
    assert not (killed / ".lock").exists()


def test_events_of_others_stay(interrupted_run, tmp_path):
    path = shutil.copytree(interrupted_run, tmp_path / "run")
    with tf.summary.create_file_writer(str(path)).as_default(step=1000):
        tf.summary.scalar("mine", 1.0)
    (mine,) = (file for file in path.glob("events*") if file.name.endswith(".v2"))
    before = mine.read_bytes()
    commands.run(*TINY, f"--logdir={path}")
    assert mine.read_bytes() == before


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_every_signal_saves(number, monkeypatch, tmp_path):
    assert {"SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"} == {number.name for number in SIGNALS}
    outer_step, before = Trainer.outer_step, [signal.getsignal(number) for number in SIGNALS]

    def signalled(trainer):
        if trainer.step == 2:
            signal.raise_signal(number)
        return outer_step(trainer)

    monkeypatch.setattr(Trainer, "outer_step", signalled)
    with pytest.raises(SystemExit) as stopped:
        commands.run(*TINY, "--checkpoint_minutes=60", f"--logdir={tmp_path}")
    assert stopped.value.code == 128 + number
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["ckpt-3.npz"]
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_hang_up_that_is_ignored_stays_so(monkeypatch, tmp_path):
    """As under `nohup`."""
    outer_step, before = Trainer.outer_step, signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def signalled(trainer):
        signal.raise_signal(signal.SIGHUP)
        return outer_step(trainer)

    monkeypatch.setattr(Trainer, "outer_step", signalled)
    try:
        commands.run(*TINY, f"--logdir={tmp_path}")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (tmp_path / "result.json").exists()


def test_outside_of_the_main_thread_signals_are_left_alone(finished_run, tmp_path):
    handlers, seen, runs = [signal.getsignal(number) for number in SIGNALS], [], []
    outer_step = Trainer.outer_step

    def watched(trainer):
        seen.append([signal.getsignal(number) for number in SIGNALS])
        return outer_step(trainer)

    config = flp_tf.load(finished_run.path).config
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "outer_step", watched)
        thread = threading.Thread(target=lambda: runs.append(flp_tf.meta_train(config, tmp_path, progress=False)))
        thread.start()
        thread.join()
    assert seen == [handlers] * 6
    assert runs[0].result()["meta_test"] == json.loads((finished_run.path / "result.json").read_text())["meta_test"]


@pytest.mark.parametrize("what", ["fails", "none"])
def test_a_task_that_cannot_draw_is_trained_all_the_same(what, monkeypatch, tmp_path, capsys):
    def draw(task, episode, before, after):
        if what == "fails":
            raise KeyError("no such color")

    monkeypatch.setattr(Sine, "draw", draw)
    commands.run(*TINY, f"--logdir={tmp_path}")
    assert (tmp_path / "result.json").exists()
    lines = [line for line in capsys.readouterr().err.splitlines() if "flp_tf: " in line]
    assert len(lines) == (what == "fails"), "said once, though there are two evaluations"
    assert all("--task=sine cannot draw its episodes (KeyError: 'no such color')" in line for line in lines)


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
    monkeypatch.setattr(results, "table", lambda *_: signal.raise_signal(signal.SIGINT))
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


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_non_finite_meta_gradients_are_skipped_and_counted(what, monkeypatch):
    spoiled = tf.Variable(False)
    if what == "loss":
        spoil_episodes(monkeypatch, lambda index: spoiled)
    else:
        spoil_gradients(monkeypatch, spoiled)
    trainer = make_trainer()
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
    trainer = make_trainer(episodes=12)
    for _ in range(11):
        trainer.outer_step()
    assert [int(values(trainer)[name]) for name in COUNTERS] == [11, 8, 2]
    with pytest.raises(Diverged, match="3 meta-gradients in a row were not finite, .* the last was at lifetime 12"):
        trainer.outer_step()


def test_diverged_run_exits_with_advice_that_names_the_flags(monkeypatch, tmp_path):
    path = tmp_path / "run"
    spoil_episodes(monkeypatch, lambda index: tf.greater(index, 1))
    with pytest.raises(SystemExit) as stopped:
        commands.run(*TINY, "--max_skipped=3", f"--logdir={path}")
    line = stopped.value.code
    assert isinstance(line, str) and line.startswith("flp_tf: ") and "\n" not in line
    for flag in ("--plasticity_rate=0.01", "--slow_rate=0.01", "--clip_norm=1", "another --logdir"):
        assert flag in line
    assert not (path / "result.json").exists()
    # The newest checkpoint is from before the run gave up.
    assert {file.stem for file in (path / "checkpoints").iterdir()} == {"ckpt-2", "ckpt-3", "ckpt-4"}


def test_a_run_without_one_finite_meta_gradient_has_no_result(monkeypatch, tmp_path):
    """Though there are fewer steps than --max_skipped, it exits with a line and a number."""
    spoil_episodes(monkeypatch, lambda index: tf.greater_equal(index, 0))
    for _ in range(2):
        with pytest.raises(SystemExit, match="flp_tf: none of the 6 meta-gradients was finite"):
            commands.run(*TINY, f"--logdir={tmp_path}")
        assert not (tmp_path / "result.json").exists()


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
        assert content["meta_test"] == {"mean": None, "stderr": None, "episodes": 4}
        assert content["diverged"] == "the error on unseen data is not a finite number"
    assert "Meta-test" not in capsys.readouterr().out
