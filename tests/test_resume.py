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
from commands import SHORT, TINY
from helpers import eagerly
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainers import STEPS, make_trainer, values

from flp_tf.meta.trainer import Trainer
from flp_tf.runs.checkpoints import Checkpoints

pytestmark = pytest.mark.slow


def assert_bitwise_equal(ours, theirs) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name, strict=True)


# Scalars that differ from run to run.
TIMES = ("outer/episodes_per_second", "outer/minutes")
# Everything that an outer step has to remember, or to find again from its number.
OUTER_LOOP = {"schedule": "cosine", "warmup_steps": 2, "clip_norm": 0.5}
OUTER_LOOP |= {"meta_batch": 2, "episodes": 2 * STEPS, "lifetime": 4, "segment_length": -1, "curriculum": "2:4"}


def test_resumed_trainer_is_bitwise_the_uninterrupted_one(eager, tmp_path):
    """From a checkpoint on the way; another seed is another run. Of graphs, those of whole runs say the same below."""
    whole, resumed, other = (make_trainer(**OUTER_LOOP, seed=seed) for seed in (0, 0, 1))
    metrics = [whole.outer_step() for _ in range(3)]
    Checkpoints(tmp_path, whole.variables).save(whole.step)
    metrics += [whole.outer_step() for _ in range(STEPS - 3)]
    assert Checkpoints(tmp_path, resumed.variables).restore()
    assert [resumed.outer_step() for _ in range(STEPS - 3)] == metrics[3:]
    assert_bitwise_equal(values(resumed), values(whole))
    losses = {row["loss"] for row in metrics}
    assert len(losses) == STEPS and other.outer_step()["loss"] not in losses


def checkpoint(path) -> dict[str, np.ndarray]:
    """Returns the variables of the newest checkpoint of a run, but for the time it took."""
    newest = max((path / "checkpoints").iterdir(), key=lambda file: int(file.stem.split("-")[1]))
    with np.load(newest) as content:
        return {name: content[name] for name in content if name != "outer/seconds"}


def scalars(path) -> dict[tuple[str, int], float]:
    """Returns the scalars in all event files of a run, by tag and lifetime, but for those of time."""
    found = {}
    for file in sorted(path.glob("events*"), key=lambda file: file.stat().st_mtime):
        accumulator = EventAccumulator(str(file), {"tensors": 0})
        accumulator.Reload()
        for tag in accumulator.Tags()["tensors"]:
            for event in accumulator.Tensors(tag):
                value = tf.make_ndarray(event.tensor_proto)
                if value.shape or not np.issubdtype(value.dtype, np.number) or tag in TIMES:
                    continue
                assert (tag, event.step) not in found, "a lifetime is logged once"
                found[tag, event.step] = float(value)
    return found


def losses(path) -> dict[int, float]:
    """Returns the query losses in all event files of a run, by lifetime."""
    return {step: value for (tag, step), value in scalars(path).items() if tag == "query/loss"}


LONG = (*TINY, "--network=8", "--lifetime=4", "--episodes=40", "--eval_every=5", "--log_every=1")
LONG += ("--curriculum=2:10", "--schedule=cosine", "--clip_norm=0.5")


# The first process is sent Ctrl-C, the second SIGKILL, each once it has evaluated. No time goes into pictures.
PROCESSES = """
import os, signal, time
from flp_tf.runs.summaries import Summaries

Summaries._picture = lambda *_: None
result = []
for arguments, number in zip(values, (signal.SIGINT, signal.SIGKILL)):
    process = forked.Child(arguments, Path.cwd())
    while b"\\nlifetime " not in os.pread(process.out.fileno(), 10_000, 0) and time.monotonic() < process.began + 90:
        time.sleep(0.002)
    process.kill(number)
    end = process.wait(120)
    result.append([end.code, end.out, end.err])
"""


def test_stopped_and_killed_processes_end_where_an_undisturbed_run_does(bare, tmp_path):
    """Stopped by SIGINT, then killed, each in a process of its own; for other signals see `test_interruption.py`."""
    whole, disturbed = tmp_path / "whole", tmp_path / "disturbed"
    commands.run(*LONG, "--checkpoint_minutes=60", f"--logdir={whole}")
    command = [*LONG, f"--logdir={disturbed}"]
    (code, out, err), (code_of_killed, out_of_killed, _) = commands.fork(
        PROCESSES, [*command, "--checkpoint_minutes=60"], command
    )
    assert (code, code_of_killed) == (128 + signal.SIGINT, -signal.SIGKILL), err
    match = re.search(r"Stopped after (\d+) lifetimes and saved; the same command continues\.", out)
    assert match and 0 < int(match[1]) < 40
    assert "Traceback" not in err and "query_loss=" in err
    assert f"Continuing {disturbed} after {match[1]} lifetimes.\n" in out_of_killed
    assert not (disturbed / "result.json").exists() and (disturbed / ".lock").exists()
    # What a process killed in the middle of an event and of a checkpoint leaves.
    events = max(disturbed.glob("events*"), key=lambda file: file.stat().st_mtime)
    events.write_bytes(events.read_bytes() + b"\x10\0\0")
    (disturbed / "checkpoints" / ".ckpt-9.npz.flp_tf-0123456789abcdef.partial").write_bytes(b"half")
    commands.run(*LONG, f"--logdir={disturbed}")
    assert scalars(disturbed) == scalars(whole)
    assert list(losses(whole)) == list(range(1, 41))
    assert_bitwise_equal(checkpoint(disturbed), checkpoint(whole))
    results = [json.loads((path / "result.json").read_text()) for path in (disturbed, whole)]
    assert results[0] | {"minutes": 0} == results[1] | {"minutes": 0}
    kept = {path.name for path in (disturbed / "checkpoints").iterdir()}
    assert kept == {f"ckpt-{step}.npz" for step in (38, 39, 40)}
    assert not (disturbed / ".lock").exists()


def test_interrupted_run_ends_like_the_finished_one(interrupted_run, finished_run, tmp_path):
    """Events of others, in the same folder, stay."""
    path = shutil.copytree(interrupted_run, tmp_path / "run")
    assert {file.stem for file in (path / "checkpoints").iterdir()} == {"ckpt-1", "ckpt-2", "ckpt-3"}
    with tf.summary.create_file_writer(str(path)).as_default(step=1000):
        tf.summary.scalar("mine", 1.0)
    (mine,) = (file for file in path.glob("events*") if file.name.endswith(".v2"))
    before = mine.read_bytes()
    commands.run(*TINY, f"--logdir={path}")
    assert mine.read_bytes() == before
    assert_bitwise_equal(checkpoint(path), checkpoint(finished_run.path))


class Killed(BaseException):
    """In place of SIGKILL: nobody catches it, and nothing is saved."""


# Means over three steps, so that sums of one step or two stand in a checkpoint.
SUMMED = (*SHORT, "--episodes=8", "--log_every=3", "--eval_every=4")


@pytest.fixture(scope="module")
def whole_and_killed(tmp_path_factory) -> tuple[Path, Path]:
    """An undisturbed run of `SUMMED`, and one killed in the sixth step, with a checkpoint of each step before."""
    folder, outer_step, save = tmp_path_factory.mktemp("summed"), Trainer.outer_step, Checkpoints.save
    whole, killed = folder / "whole", folder / "killed"

    def interrupted(trainer):
        if trainer.step == 5:
            raise Killed
        return outer_step(trainer)

    def all_kept(kept, step):
        kept.keep = 5
        save(kept, step)

    with pytest.MonkeyPatch.context() as patch, eagerly():
        commands.make_bare(patch)
        commands.run(*SUMMED, f"--logdir={whole}")
        patch.setattr(Trainer, "outer_step", interrupted)
        patch.setattr(Checkpoints, "save", all_kept)
        with pytest.raises(Killed):
            commands.run(*SUMMED, f"--logdir={killed}")
    return whole, killed


@pytest.mark.parametrize("saved", [(), (1,), (1, 3, 4)])
def test_scalars_after_a_kill_are_those_of_an_undisturbed_run(saved, whole_and_killed, bare, eager, tmp_path):
    """With checkpoints of some of the steps before, and events of all."""
    whole, killed = whole_and_killed[0], shutil.copytree(whole_and_killed[1], tmp_path / "killed")
    for step in {1, 2, 3, 4, 5} - {*saved}:
        (killed / "checkpoints" / f"ckpt-{step}.npz").unlink()
    assert (max(step for _, step in scalars(killed)) > max(saved, default=0)) == (saved != (1, 3, 4))
    commands.run(*SUMMED, f"--logdir={killed}")
    assert scalars(killed) == scalars(whole)
    assert list(losses(whole)) == [3, 6, 8]
    assert_bitwise_equal(checkpoint(killed), checkpoint(whole))
