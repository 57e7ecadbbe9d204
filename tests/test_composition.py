"""Parts that the paper leaves open work together, two at a time; lengths of lifetimes that are drawn."""

import itertools
import json

import commands
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import flp_tf
from flp_tf import learners
from flp_tf.errors import InputError
from flp_tf.meta import devices
from flp_tf.runs.checkpoints import Checkpoints
from flp_tf.runs.config import configure
from flp_tf.runs.training import make_trainer as trainer_of

TINY = {
    "task": "sine",
    "num_sines": 2,
    "network": "6-6",
    "lifetime": 2,
    "batch_size": 3,
    "query_size": 3,
    "episodes": 2,
    "plasticity_scale": 1e-2,
    "plasticity_init": 1.0,
    "output_plasticity_init": 1.0,
    "jit_compile": False,
    "segment_length": -1,
}
PARTS = {
    "polynomial": {"rule": "polynomial"},
    "plastic": {"feedback": "plastic", "feedback_plasticity_init": 1.0},
    "cascade": {"feedback": "cascade"},
    "gaussian": {"initial": "gaussian", "initial_penalty_weight": 1e-3},
    "recurrent": {"method": "recurrent", "sub_steps": 3},
    "lengths": {"lifetimes": (2, 4)},
}
# Of one layer there is one pathway.
PAIRS = [pair for pair in itertools.combinations(PARTS, 2) if pair != ("plastic", "cascade")]


pytestmark = pytest.mark.usefixtures("eager")


def make_trainer(**flags):
    config = configure(**TINY | flags)
    task = config.make_task()
    return trainer_of(config, task, learners.build(config, task))


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_pairs(pair):
    """Two outer steps: finite losses, and gradients in every group that there is."""
    trainer = make_trainer(**PARTS[pair[0]], **PARTS[pair[1]])
    groups = {"slow", "feedback", "plasticity", "strength"}
    groups |= {group for part, group in (("polynomial", "rule"), ("gaussian", "initial")) if part in pair}
    assert set(trainer.learner.groups()) == groups
    for _ in range(2):
        metrics = trainer.outer_step()
        assert metrics["skipped"] == 0 and np.isfinite(metrics["loss"])
        norms = {group: metrics[f"gradient_norm/{group}"] for group in groups}
        assert all(np.isfinite(norm) and norm > 0 for norm in norms.values()), norms


@pytest.mark.slow
def test_a_run_of_all_of_them(tmp_path):
    """Trained, evaluated and exported from the command line; coefficients and bits are scalars in TensorBoard."""
    all_parts = PARTS["polynomial"] | PARTS["plastic"] | PARTS["gaussian"] | {"lifetimes": "2,4"}
    flags = [f"--{name}={value}" for name, value in all_parts.items()]
    short = ("--rule_terms=110,021,111", "--episodes=4", "--eval_episodes=1")
    commands.run(*commands.SHORT, *short, *flags, f"--logdir={tmp_path}/run")
    config, result = (json.loads((tmp_path / "run" / f"{name}.json").read_text()) for name in ("config", "result"))
    assert config["lifetimes"] == [2, 4] and config["rule_terms"] == ["110", "021", "111"]
    assert np.isfinite(result["meta_test"]["mean"]) and (tmp_path / "run" / "export").exists()
    learner = flp_tf.load(tmp_path / "run").learner
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    for layer in learner.network.head:
        expected = {f"rule/{layer.name}/theta/{term}": theta.numpy() for term, theta in layer.rule.theta.items()}
        for tag, value in (expected | {f"bits/{layer.name}": float(layer.bits())}).items():
            points = [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]
            assert points[-1] == pytest.approx(float(value), rel=1e-5) and len(set(points)) > 1


def test_drawn_lengths(monkeypatch):
    """Each length is compiled once and about as frequent as it is named; seed and step alone decide."""
    compiled = []
    monkeypatch.setattr(
        "flp_tf.meta.trainer.compiled_estimate",
        lambda *arguments: compiled.append(arguments[2].steps) or devices.compiled_estimate(*arguments),
    )
    trainer = make_trainer(lifetimes=(2, 4, 6, 4), episodes=400)
    lengths = [trainer.lengths.task(step).steps for step in range(400)]
    counts = {length: lengths.count(length) for length in sorted(set(lengths))}
    assert list(counts) == [2, 4, 6] and 160 < counts[4] < 240 and min(counts.values()) > 70
    assert trainer.all_inner_steps == sum(lengths)
    assert [trainer.ahead(step)[0][1] for step in range(400)] == lengths
    assert sorted((length, count) for count, length in trainer.ahead(0)) == list(counts.items())
    for step in range(6):
        assert trainer.inner_steps == sum(lengths[:step])
        trainer.outer_step()
    assert sorted(compiled) == sorted(set(lengths[:6])) and len(compiled) > 1
    longer = make_trainer(lifetimes=(2, 4, 6, 4), episodes=500)
    assert [longer.lengths.task(step).steps for step in range(400)] == lengths
    other = make_trainer(lifetimes=(2, 4, 6, 4), episodes=400, seed=1)
    assert [other.lengths.task(step).steps for step in range(400)] != lengths


def test_drawn_lengths_and_weights_are_the_same_after_an_interruption(tmp_path):
    flags = {"lifetimes": (2, 4), "episodes": 4, **PARTS["gaussian"]}
    whole, resumed = (make_trainer(**flags) for _ in range(2))
    metrics = [whole.outer_step() for _ in range(2)]
    Checkpoints(tmp_path, whole.variables).save(whole.step)
    metrics = [whole.outer_step() for _ in range(2)]
    Checkpoints(tmp_path, resumed.variables).restore()
    assert [resumed.outer_step() for _ in range(2)] == metrics


def test_lengths_that_cannot_be():
    with pytest.raises(InputError, match="^--curriculum=2:1 does not go with --lifetimes=2,4; legal is one of them"):
        configure(**TINY, curriculum="2:1", lifetimes=(2, 4))
    with pytest.raises(InputError, match="^--lifetimes=0 is too small"):
        configure(**TINY, lifetimes=(0, 4))
    with pytest.raises(InputError, match="^--lifetimes with lifetimes of 3: --lifetime=3 is not divisible by"):
        make_trainer(lifetimes=(3, 4))
