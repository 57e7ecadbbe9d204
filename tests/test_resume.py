"""Interrupted and killed runs end where an undisturbed one does."""

import json
import re
import shutil
import signal
from pathlib import Path

import commands
import numpy as np
import pytest
import tensorflow as tf
from commands import TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainers import STEPS, make_trainer, values

from flp_tf.meta.trainer import Trainer
from flp_tf.runs.checkpoints import Checkpoints

pytestmark = pytest.mark.slow


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


LONG = (*TINY, "--episodes=30", "--eval_every=8", "--log_every=1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """An undisturbed run of `LONG`."""
    path = tmp_path_factory.mktemp("whole") / "run"
    commands.run(*LONG, f"--logdir={path}")
    return path


def test_processes_stopped_by_signals_end_where_an_undisturbed_one_does(whole, tmp_path):
    flags, stopped, done = [*LONG, "--checkpoint_minutes=60"], tmp_path / "stopped", 0
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


@pytest.mark.parametrize(("log_every", "saved"), [(2, []), (3, [1]), (7, [1, 3, 4])])
def test_scalars_after_a_kill_are_those_of_an_undisturbed_run(saved, log_every, monkeypatch, tmp_path):
    """Killed in the sixth step, with checkpoints of some earlier steps and events of all."""
    flags = [*TINY, "--episodes=8", f"--log_every={log_every}", "--eval_every=4"]
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


def test_a_really_killed_process_ends_where_an_undisturbed_one_does(whole, tmp_path):
    killed = tmp_path / "killed"
    process = commands.start(*LONG, f"--logdir={killed}")
    assert any(line.startswith("lifetime 8") for line in process.stdout)
    process.kill()
    process.communicate()
    # What a process killed in the middle of an event and of a checkpoint leaves.
    events = max(killed.glob("events*"), key=lambda file: file.stat().st_mtime)
    events.write_bytes(events.read_bytes() + b"\x10\0\0")
    (killed / "checkpoints" / ".ckpt-9.npz.0123456789abcdef.partial").write_bytes(b"half")
    commands.run(*LONG, f"--logdir={killed}")
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
