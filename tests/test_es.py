"""Evolution strategies, against backpropagation and against a loop over perturbed weights."""

import json

import numpy as np
import pytest
import tensorflow as tf
from commands import TINY, python, refusal

import flp_tf
from flp_tf import learners, lifetime
from flp_tf.meta.estimators import Backprop, EvolutionStrategies, PersistentEvolutionStrategies, es
from flp_tf.meta.estimators.base import weights_of

pytestmark = pytest.mark.slow

SMALL = {"task": "sine", "num_sines": 2, "lifetime": 4, "batch_size": 4, "query_size": 6, "network": "4"}
PLASTIC = {"plasticity_scale": 0.02, "plasticity_init": 1.0, "output_plasticity_init": 1.0}


def setting(**flags):
    """Returns learner, task and an episode of two lifetimes; most meta-learned weights are random."""
    config = flp_tf.configure(**SMALL | (PLASTIC if flags.get("method") != "gradient" else {}) | flags)
    task = config.make_task()
    learner = learners.build(config, task)
    rng = np.random.default_rng(0)
    for path, weight in learner.trainable.items():
        if not path.endswith("plasticity") and "initial" not in path:
            weight.assign(weight + rng.normal(0, 0.2, weight.shape))
    return learner, task, task.sample(0, 0, 2, "train")


def evolution(learner, task, **options) -> EvolutionStrategies:
    return EvolutionStrategies(**options)


def persistent(learner, task, **options) -> PersistentEvolutionStrategies:
    estimator = PersistentEvolutionStrategies(**options, unrolls=2)
    estimator.build(learner, task, 2)
    return estimator


both = pytest.mark.parametrize("kind", [evolution, persistent])


def flat(gradients) -> np.ndarray:
    return np.concatenate([np.ravel(part) for part in tf.nest.flatten(gradients)])


def cosine(one, other) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("flags", [{"method": "gradient"}, {"initial": "gaussian", "initial_penalty_weight": 0.01}])
def test_agrees_with_backpropagation(flags):
    """The more pairs, the closer: with n weights the squared cosine is about pairs / (pairs + n)."""
    learner, task, episode = setting(**flags)
    exact = Backprop().estimate(learner, task, episode)
    estimate = tf.function(EvolutionStrategies(pairs=20, perturbation=1e-3).estimate, autograph=False, jit_compile=True)
    found = [estimate(learner, task, episode, tf.constant([3, i])) for i in range(75)]
    assert {group: list(of_group) for group, of_group in found[0].gradients.items()} == {
        group: list(of_group) for group, of_group in exact.gradients.items()
    }
    gradients = [flat(part.gradients) for part in found]
    few, many = (cosine(gradient, flat(exact.gradients)) for gradient in (gradients[0], np.mean(gradients, 0)))
    assert few < many and many > 0.95
    for part in found:
        np.testing.assert_allclose([part.loss, part.error], exact[:2], rtol=1e-2)


def test_is_the_slope_of_the_loss_along_the_directions(monkeypatch):
    """One pair, of a direction that the test draws, against losses at weights that the test sets."""
    learner, task, episode = setting()
    weights, rng, size = weights_of(learner), np.random.default_rng(1), 0.1
    direction = tf.nest.map_structure(lambda weight: rng.normal(size=weight.shape).astype(np.float32), weights)
    monkeypatch.setattr(es, "_directions", lambda weights, seed: tf.nest.map_structure(tf.constant, direction))
    found = EvolutionStrategies(pairs=1, perturbation=size).estimate(learner, task, episode, tf.constant([1, 2]))
    kept = tf.nest.map_structure(lambda weight: weight.numpy(), weights)

    def loss_at(length):
        tf.nest.map_structure(lambda weight, value, e: weight.assign(value + length * e), weights, kept, direction)
        state = lifetime.run(learner, episode).state
        return float(np.mean(task.loss(lifetime.query(learner, state, episode), episode.query_y)))

    losses = [loss_at(length) for length in (size, -size)]
    slope = (losses[0] - losses[1]) / (2 * size)
    np.testing.assert_allclose(flat(found.gradients), slope * flat(direction), rtol=1e-3)
    assert float(found.loss) == pytest.approx(np.mean(losses), rel=1e-5)


@both
def test_weights_come_back_bit_by_bit(kind):
    learner, task, episode = setting()
    before = {path: weight.numpy().copy() for path, weight in learner.variables.items()}
    estimate = tf.function(kind(learner, task, pairs=3).estimate, autograph=False)
    first, second = (estimate(learner, task, episode, tf.constant(seed)) for seed in ([1, 2], [1, 3]))
    for path, weight in learner.variables.items():
        np.testing.assert_array_equal(weight.numpy(), before[path], err_msg=path)
    assert np.any(flat(first.gradients) != flat(second.gradients))


@both
def test_lifetimes_are_not_kept(kind):
    """No operation of the graph keeps a list over the lifetime: it is as large at any length."""
    sizes = []
    for steps in (4, 4000):
        learner, task, _ = setting(lifetime=steps)
        estimate = tf.function(kind(learner, task, pairs=2).estimate, autograph=False)
        graph = estimate.get_concrete_function(learner, task, task.sample(0, 0, 2, "train"), tf.constant([1, 2])).graph
        nodes = [node for f in graph.as_graph_def().library.function for node in f.node_def]
        assert not any("TensorList" in node.op or "TensorArray" in node.op for node in nodes)
        sizes.append(len(nodes))
    assert sizes[0] == sizes[1]


# One process, because each would start TensorFlow: its peaks so far, of which none is above a later one.
PEAKS = r"""
import json, re
from pathlib import Path
import flp_tf, tensorflow as tf
from flp_tf import learners
from flp_tf.meta.devices import compiled_estimate

def peak(estimator, steps, **option):
    flags = {"estimator": estimator, "lifetime": steps, "num_plastic_layers": 2, **option}
    config = flp_tf.configure(task="sine", network="128-128", batch_size=2, query_size=2, **flags)
    task = config.make_task()
    learner = learners.build(config, task)
    of_run = config.choice("estimator")()
    of_run.build(learner, task, 1)
    estimate = compiled_estimate(of_run, learner, task, jit_compile=False)
    estimate(task.sample(0, 0, 1, "train"), tf.constant([1, 2])).loss.numpy()
    return int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

peaks = [peak("es", 20, pairs=1), peak("es", 2000, pairs=1), peak("pes", 2000, pairs=1, unrolls=2)]
print(json.dumps([*peaks, peak("backprop", 2000, segment_length=-1)]))
"""


def test_memory_of_a_hundred_times_longer_lifetime():
    """Peak memory of a process grows by little; that of a plain loop under a tape, by all that it keeps."""
    done = python(PEAKS)
    assert done.returncode == 0, done.stderr
    short, long, persistent, backprop = json.loads(done.stdout)
    assert long - short < 60 and persistent - long < 60, done.stdout
    assert backprop - persistent > 240, done.stdout


@pytest.mark.parametrize("estimator", ["es", "pes"])
def test_a_run_trains(estimator, bare, eager, tmp_path):
    short = {"pairs": 2, "episodes": 2, "meta_batch": 2, "eval_episodes": 2}
    config = flp_tf.configure(**SMALL, **short, estimator=estimator)
    run = flp_tf.meta_train(config, tmp_path / "run", progress=False)
    assert np.isfinite(run.result()["meta_test"]["mean"])


@pytest.mark.parametrize("flag", ["--pairs=0", "--perturbation=0"])
def test_bad_options(flag, tmp_path):
    assert flag in refusal(*TINY, "--estimator=es", flag, f"--logdir={tmp_path / 'run'}")
