"""Signals, in a run and outside of one."""

import signal
import threading

import commands
import pytest
from commands import SHORT, TINY
from trainers import CONFIG

import flp_tf
from flp_tf.meta.trainer import Trainer
from flp_tf.runs import results, training
from flp_tf.runs.interruption import SIGNALS, Interrupted, Interruption
from flp_tf.tasks import Sine

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_every_signal_saves(number, bare, eager, monkeypatch, tmp_path):
    assert {"SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"} == {number.name for number in SIGNALS}
    outer_step, before = Trainer.outer_step, [signal.getsignal(number) for number in SIGNALS]

    def signalled(trainer):
        if trainer.step == 1:
            signal.raise_signal(number)
        return outer_step(trainer)

    monkeypatch.setattr(Trainer, "outer_step", signalled)
    with pytest.raises(SystemExit) as stopped:
        commands.run(*SHORT, "--checkpoint_minutes=60", f"--logdir={tmp_path}")
    assert stopped.value.code == 128 + number
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["ckpt-2.npz"]
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_signal_at_any_moment_leaves_with_what_it_says_was_saved(bare, eager, monkeypatch, tmp_path):
    """Here it comes after the code has looked whether there was one, once per lifetime, and before it looks again."""
    looks = []

    class Late(Interruption):
        @property
        def signal(self):
            looks.append(None)
            return signal.SIGINT if len(looks) > 1 else None

        @signal.setter
        def signal(self, number):
            pass

    monkeypatch.setattr(training, "Interruption", Late)
    with pytest.raises(Interrupted) as stopped:
        flp_tf.meta_train(flp_tf.configure(**CONFIG), tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "checkpoints" / f"ckpt-{stopped.value.episodes}.npz").exists()


def test_a_hang_up_that_is_ignored_stays_so(bare, eager, monkeypatch, tmp_path):
    """As under `nohup`."""
    outer_step, before = Trainer.outer_step, signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def signalled(trainer):
        signal.raise_signal(signal.SIGHUP)
        return outer_step(trainer)

    monkeypatch.setattr(Trainer, "outer_step", signalled)
    try:
        commands.run(*SHORT, "--episodes=2", f"--logdir={tmp_path}")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (tmp_path / "result.json").exists()


def test_outside_of_the_main_thread_signals_are_left_alone(bare, eager, tmp_path):
    handlers, seen, runs = [signal.getsignal(number) for number in SIGNALS], [], []
    outer_step = Trainer.outer_step

    def watched(trainer):
        seen.append([signal.getsignal(number) for number in SIGNALS])
        return outer_step(trainer)

    config = flp_tf.configure(**CONFIG | {"lifetime": 2, "episodes": 2}, eval_episodes=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "outer_step", watched)
        thread = threading.Thread(target=lambda: runs.append(flp_tf.meta_train(config, tmp_path, progress=False)))
        thread.start()
        thread.join()
    assert seen == [handlers] * 2
    assert runs[0].result()["episodes"] == 2


def test_a_task_that_cannot_draw_is_trained_all_the_same(eager, monkeypatch, tmp_path, capsys):
    """At three evaluations: it has no picture, it fails, it is not asked again."""
    calls = []

    def draw(task, episode, before, after):
        calls.append(len(calls))
        if calls[-1]:
            raise KeyError("no such color")

    monkeypatch.setattr(Sine, "draw", draw)
    monkeypatch.setattr(training, "export", lambda *_: None)
    commands.run(*SHORT, "--episodes=3", "--eval_every=1", f"--logdir={tmp_path}")
    assert (tmp_path / "result.json").exists() and len(calls) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "flp_tf: " in line)
    assert "--task=sine cannot draw its episodes (KeyError: 'no such color')" in line


def test_interruption_of_the_last_step_leaves_before_the_meta_test(bare, eager, monkeypatch, tmp_path):
    outer_step, short = Trainer.outer_step, (*SHORT, "--episodes=2")

    def interrupted(trainer):
        if trainer.step == 1:
            signal.raise_signal(signal.SIGINT)
        return outer_step(trainer)

    monkeypatch.setattr(Trainer, "outer_step", interrupted)
    with pytest.raises(SystemExit) as stopped:
        commands.run(*short, f"--logdir={tmp_path / 'run'}")
    assert stopped.value.code == 128 + signal.SIGINT
    assert not (tmp_path / "run" / "result.json").exists()
    commands.run(*short, f"--logdir={tmp_path / 'run'}")
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
