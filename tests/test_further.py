"""Meta-training that starts from a trained network, and that goes on after its end."""

import json
import re

import commands
import numpy as np
import pytest
import tensorflow as tf
from commands import SHORT, TINY, contents, meta_test, refusal
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import flp_tf
from flp_tf.meta.trainer import Trainer
from flp_tf.runs import training

pytestmark = pytest.mark.slow


def arrays(path, step: int) -> dict[str, np.ndarray]:
    with np.load(path / "checkpoints" / f"ckpt-{step}.npz") as content:
        return {name: content[name] for name in content if name != "outer/seconds"}


def test_a_finished_run_goes_on_with_more_lifetimes(bare, eager, tmp_path, monkeypatch):
    """It ends where a run of as many lifetimes ends; its result is there when they are done, not before."""
    there, outer_step, run, whole = [], Trainer.outer_step, tmp_path / "run", tmp_path / "whole"

    def watched(trainer):
        there.append((run / "result.json").exists())
        return outer_step(trainer)

    commands.run(*SHORT, "--episodes=1", f"--logdir={run}")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "outer_step", watched)
        commands.run(*SHORT, "--episodes=3", f"--logdir={run}")
    commands.run(*SHORT, "--episodes=3", f"--logdir={whole}")
    assert there == [False] * 2
    found, expected = arrays(run, 3), arrays(whole, 3)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert meta_test(run / "result.json") == meta_test(whole / "result.json")
    assert json.loads((run / "config.json").read_text())["episodes"] == 3


SCHEDULE, CURRICULUM = {"schedule": "cosine"}, {"curriculum": "50%:50%"}
RATES, LENGTHS = "rates (--schedule=cosine)", "lengths (--curriculum=50%:50%)"


@pytest.mark.parametrize(
    "options, said",
    [
        ({"curriculum": "4:2"}, "rates and lengths stay as they are"),
        ({"schedule": "steps"}, "rates and lengths stay as they are"),
        (SCHEDULE, f"{RATES} are from here on those of a run of as many"),
        (SCHEDULE | CURRICULUM, f"{RATES} and {LENGTHS} are from here on those of a run of as many"),
    ],
)
def test_the_course_of_a_longer_run(options, said):
    assert training.course(flp_tf.configure(recipe="paper", episodes=8, lifetime=8, **options)) == said


def test_what_is_another_in_a_longer_run_is_said(bare, eager, tmp_path, capsys):
    for episodes in (1, 2):
        commands.run(*SHORT, "--schedule=cosine", f"--episodes={episodes}", f"--logdir={tmp_path}")
    assert (
        f"It goes on to 2 lifetimes; {RATES} are from here on those of a run of as many.\n" in capsys.readouterr().out
    )
    commands.run(*SHORT, "--schedule=cosine", "--episodes=2", f"--logdir={tmp_path}")
    assert "It goes on to" not in capsys.readouterr().out
    events = EventAccumulator(str(tmp_path), {"tensors": 0}).Reload()
    texts = {event.step: tf.make_ndarray(event.tensor_proto).item().decode() for event in events.Tensors("run")}
    assert texts.keys() == {0, 1}
    assert "| `--episodes` | 1 |" in texts[0] and "| `--episodes` | 2 |" in texts[1]


def test_a_finished_run_does_not_go_back(run_copy):
    before = contents(run_copy)
    assert "--episodes=5 (the run has 6)" in refusal(*TINY, "--episodes=5", f"--logdir={run_copy}")
    assert contents(run_copy) == before


def test_a_run_starts_from_another_s_weights(finished_run, bare, eager, tmp_path):
    """With rates of 0 they stay what they are."""
    still = [f"--{group}_rate=0" for group in ("slow", "feedback", "plasticity", "strength")]
    arguments = (*SHORT, *still, f"--init_from={finished_run.path}", "--seed=7", "--episodes=1")
    commands.run(*arguments, f"--logdir={tmp_path / 'run'}")
    trained, found = arrays(finished_run.path, 6), arrays(tmp_path / "run", 1)
    names = [name for name in trained if name.startswith("learner/")]
    assert names
    for name in names:
        np.testing.assert_array_equal(found[name], trained[name], err_msg=name)
    assert flp_tf.load(tmp_path / "run").config.init_from == str(finished_run.path)


def test_a_network_that_ships_can_be_the_start(bare, eager, tmp_path):
    shape = {"network": "sine_compact", "lifetime": 10, "batch_size": 2, "query_size": 2, "segment_length": -1}
    config = flp_tf.configure(**shape, episodes=1, eval_episodes=1, jit_compile=False, slow_rate=0.0)
    run = flp_tf.meta_train(config.replace(init_from="sine_iid_flp2"), tmp_path / "run", progress=False)
    shipped = flp_tf.load("sine_iid_flp2").learner.network.layers["layer_0"].kernel
    np.testing.assert_array_equal(run.learner.network.layers["layer_0"].kernel, shipped)


@pytest.mark.parametrize(
    "start, message",
    [
        ("nowhere", "--init_from=nowhere does not exist, and is no network that ships; those are "),
        ("sine_iid_flp2", "--init_from: checkpoint .* is of another architecture"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_and_no_folder_is_left(start, message, tmp_path):
    line = refusal(*TINY, f"--init_from={start}", f"--logdir={tmp_path / 'run'}")
    assert re.search(message, line)
    assert not (tmp_path / "run").exists()
