"""Persistent evolution strategies, against a loop over perturbed networks, evolution strategies and backpropagation."""

import numpy as np
import pytest
import tensorflow as tf
from commands import TINY, refusal
from test_es import cosine, flat, setting

from flp_tf.meta.estimators import EvolutionStrategies, PersistentEvolutionStrategies, es
from flp_tf.meta.estimators.base import weights_of
from flp_tf.runs.config import configure
from flp_tf.runs.training import make_trainer

pytestmark = pytest.mark.slow

SEED = tf.constant([3, 4])


def built(learner, task, lifetimes=2, **options) -> PersistentEvolutionStrategies:
    estimator = PersistentEvolutionStrategies(**options)
    estimator.build(learner, task, lifetimes)
    return estimator


def unroll(learner, task, episode, state, steps):
    """Returns the state after some inner steps, and the loss of the query then, by a Python loop."""
    for t in steps:
        state = learner.learn(state, learner.encode(episode.support_x[t]), episode.support_y[t])
    outputs = learner.predict(state, learner.encode(episode.query_x))
    return state, tf.reduce_mean(task.loss(outputs, episode.query_y)) + learner.penalty()


def test_two_unrolls_are_those_of_a_loop(monkeypatch):
    """Two pairs with directions that the test draws; the weights change between the unrolls, as in training."""
    learner, task, episode = setting()
    weights, rng, size = weights_of(learner), np.random.default_rng(1), 0.1
    drawn = [tf.nest.map_structure(lambda w: rng.normal(size=w.shape).astype(np.float32), weights) for _ in range(4)]
    given = iter(drawn)
    monkeypatch.setattr(es, "_directions", lambda weights, seed: tf.nest.map_structure(tf.constant, next(given)))
    estimator = built(learner, task, pairs=2, perturbation=size, unrolls=2)
    kept = tf.nest.map_structure(lambda weight: weight.numpy(), weights)

    def place(values, direction, length):
        tf.nest.map_structure(lambda w, value, e: w.assign(value + length * e), weights, values, direction)

    states, sums = {}, [0.0, 0.0]
    for k, steps in enumerate(([0, 1], [2, 3])):
        here = tf.nest.map_structure(lambda value, k=k: value + 0.05 * k, kept)
        expected, losses = 0.0, []
        for i in range(2):
            direction = drawn[2 * k + i]
            sums[i] = sums[i] + flat(direction)
            for sign in (1, -1):
                place(here, direction, sign * size)
                state = states.get((i, sign), learner.initial_state(episode.seed))
                states[i, sign], loss = unroll(learner, task, episode, state, steps)
                losses.append(float(loss))
            expected = expected + sums[i] * (losses[-2] - losses[-1]) / (2 * size) / 2
        place(here, here, 0)
        found = estimator.estimate(learner, task, episode, SEED)
        np.testing.assert_allclose(flat(found.gradients), expected, rtol=1e-3, atol=1e-5)
        assert float(found.loss) == pytest.approx(np.mean(losses), rel=1e-5)


def test_one_unroll_is_es():
    learner, task, episode = setting(initial="gaussian", initial_penalty_weight=0.01)
    found = built(learner, task, pairs=3, unrolls=1).estimate(learner, task, episode, SEED)
    seed = tf.random.fold_in(SEED, 0, alg="philox")
    expected = EvolutionStrategies(pairs=3).estimate(learner, task, episode, seed)
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_agrees_with_backpropagation_through_all_unrolls():
    """The mean over the unrolls, with the gradient of the mean loss; without the sums it is one that is cut."""
    learner, task, episode = setting()
    exact = {}
    for cut in (False, True):
        with tf.GradientTape() as tape:
            state, losses = learner.initial_state(episode.seed), []
            for steps in ([0, 1], [2, 3]):
                state, loss = unroll(learner, task, episode, state, steps)
                losses.append(loss)
                if cut:
                    state = tf.nest.map_structure(tf.stop_gradient, state)
            loss = sum(losses) / 2
        exact[cut] = flat(tape.gradient(loss, weights_of(learner), unconnected_gradients="zero"))
    estimator = built(learner, task, pairs=300, perturbation=1e-3, unrolls=2)
    estimate = tf.function(estimator.estimate, autograph=False, jit_compile=True)
    seeds = [tf.constant([3, i]) for i in range(10) for _ in range(2)]  # Ten lifetimes of two unrolls.
    found = np.mean([flat(estimate(learner, task, episode, seed).gradients) for seed in seeds], 0)
    assert cosine(found, exact[False]) > 0.95
    assert cosine(found, exact[False]) > cosine(found, exact[True]) + 0.05


def test_lifetimes_begin_anew():
    """After a whole lifetime nothing of it is left, so that checkpoints need nothing of it."""
    learner, task, episode = setting()
    other = task.sample(0, 2, 2, "train")
    used, fresh = (built(learner, task, pairs=2, unrolls=2) for _ in range(2))
    first = [used.estimate(learner, task, episode, SEED) for _ in range(2)]
    for _ in range(2):
        mine, theirs = (estimator.estimate(learner, task, other, SEED) for estimator in (used, fresh))
        for one, another in zip(tf.nest.flatten(mine), tf.nest.flatten(theirs)):
            np.testing.assert_array_equal(one, another)
    assert float(first[0].loss) != float(first[1].loss) != float(mine.loss)
    assert used.variables == {}


@pytest.mark.parametrize("steps, unrolls", [(12, 4), (9, 3), (7, 1), (2, 2)])
def test_unrolls_divide_the_lifetime(steps, unrolls):
    task = setting(num_sines=1, lifetime=steps)[1]
    assert PersistentEvolutionStrategies(unrolls=4).updates(task) == unrolls


def test_updates_of_an_outer_step():
    """Lifetimes of 4 and of 6 steps: 2 and 3 unrolls, an update after each; the schedule ends with the last."""
    flags = {"task": "sine", "num_sines": 2, "batch_size": 4, "query_size": 4, "network": "4", "estimator": "pes"}
    flags |= {"lifetime": 6, "curriculum": "4:1", "episodes": 2, "unrolls": 3, "jit_compile": False}
    config = configure(**flags, pairs=2, recipe="paper", schedule="cosine")
    with_trainer = setting(**{name: flags[name] for name in ("lifetime", "batch_size", "query_size")})
    trainer = make_trainer(config, with_trainer[1], with_trainer[0])
    metrics, updates = [], []
    for _ in range(2):
        before = [weight.numpy() for weight in trainer.learner.trainable.values()]
        metrics.append(trainer.outer_step())
        updates.append(int(trainer.optimizers.optimizers["slow"].iterations))
        assert any(np.any(old != new) for old, new in zip(before, trainer.learner.trainable.values()))
    assert updates == [2, 5] and trainer.episodes == 2 and trainer.inner_steps == 10
    assert all(np.isfinite(row["loss"]) and not row["skipped"] for row in metrics)
    slow = trainer.optimizers.optimizers["slow"]
    assert float(slow.learning_rate) == pytest.approx(0.01 * config.slow_rate)


@pytest.mark.parametrize("flag", ["--pairs=0", "--unrolls=0"])
def test_bad_options(flag, tmp_path):
    assert flag in refusal(*TINY, "--estimator=pes", flag, f"--logdir={tmp_path / 'run'}")
