"""Estimators and the trainer above them, against a tape over an explicit Python loop."""

import functools
import os

import helpers
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    METHODS,
    REGRESSION,
    assert_close,
    build_learner,
    in_mode,
    random_episode,
    scaled_learner,
    to_numpy,
)

from flp_tf import registry
from flp_tf.errors import InputError
from flp_tf.meta.devices import compiled_estimate
from flp_tf.meta.estimators import ESTIMATORS, Backprop, Estimate
from flp_tf.meta.options import Engine

pytestmark = pytest.mark.slow

SEED = tf.constant([1, 2])
PLAIN = Engine(jit_compile=False)


@pytest.fixture(autouse=True)
def float64(monkeypatch):
    monkeypatch.setattr(helpers, "DTYPE", "float64")


def python_estimate(learner, task, episode) -> Estimate:
    """Returns loss, error and gradients by a Python loop under one tape."""
    with tf.GradientTape() as tape:
        state = learner.initial_state(episode.seed)
        for x, y in zip(episode.support_x, episode.support_y):
            state = learner.learn(state, learner.encode(x), y)
        outputs = learner.predict(state, learner.encode(episode.query_x))
        loss = tf.reduce_mean(task.loss(outputs, episode.query_y)) + learner.penalty()
    weights = {path: weight.value for path, weight in learner.trainable.items()}
    flat = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    gradients = {group: {path: flat[path] for path in paths} for group, paths in learner.groups().items()}
    return Estimate(loss, tf.reduce_mean(task.error(outputs, episode.query_y)), gradients)


def flat(gradients) -> dict[str, np.ndarray]:
    return {path: gradient.numpy() for group in gradients.values() for path, gradient in group.items()}


@pytest.mark.parametrize(
    ("segment_length", "mode"), [(0, "eager"), (3, "eager"), (-1, "eager"), (3, "graph"), (0, "xla")]
)
def test_backprop_of_every_weight(segment_length, mode):
    """Loss with penalty, error, and gradients keyed by group and path, a learner's own weight among them."""
    learner, episode = scaled_learner(), random_episode()
    expected = python_estimate(learner, REGRESSION, episode)
    estimate = in_mode(lambda e: Backprop(segment_length).estimate(learner, REGRESSION, e, SEED), mode)(episode)
    assert list(estimate.gradients) == ["slow", "feedback", "plasticity", "strength"]
    assert flat(estimate.gradients).keys() == learner.trainable.keys()
    assert "gain" in estimate.gradients["slow"]
    assert_close(to_numpy(estimate), to_numpy(expected))
    assert all(np.any(gradient) for gradient in flat(estimate.gradients).values())
    assert float(estimate.loss - estimate.error) == pytest.approx(0.1 * 1.5**2)


FREEZE = {
    "trunk layer": (lambda network: network.trunk[0], {"network/layers/layer_0/kernel", "network/layers/layer_0/bias"}),
    "plastic layer": (lambda network: network.head[0], "network/layers/layer_1/"),
    "pathway": (lambda network: network.head[0].feedback, "network/layers/layer_1/feedback/"),
    "weight": (lambda network: network.head[-1].kernel, {"network/layers/layer_2/kernel"}),
}


@pytest.fixture(scope="module")
def gradients_of_all():
    """Returns the gradients of a learner of which nothing is frozen, as they were computed once."""

    @functools.cache
    def gradients():
        return flat(Backprop().estimate(build_learner(), REGRESSION, random_episode(), SEED).gradients)

    return gradients


@pytest.mark.parametrize("what", FREEZE)
def test_frozen_weights_stay(what, gradients_of_all):
    """`trainable = False` on a layer, a part of it or a weight: no gradient, no step, and the others' as before."""
    learner, episode = build_learner(), random_episode()
    before = gradients_of_all()
    choose, frozen = FREEZE[what]
    if isinstance(frozen, str):
        frozen = {path for path in learner.variables if path.startswith(frozen)}
    choose(learner.network).trainable = False
    after = flat(Backprop().estimate(learner, REGRESSION, episode, SEED).gradients)
    assert before.keys() - after.keys() == frozen != set()
    assert frozen <= learner.variables.keys()
    assert_close(after, {path: before[path] for path in after})


# Every learner on one kind of device: what a device does is the same for all.
ON_DEVICES = [("flp", 2), ("flp", 3), ("feature_reuse", 1), ("dfa", "gpu")]
ON_DEVICES += [("recurrent", 1), ("gradient_first_order", "gpu"), ("gradient_second_order", 1), ("oml", "gpu")]


@pytest.mark.parametrize(("name", "cores"), ON_DEVICES)
def test_compiled_estimate_of_a_meta_batch(name, cores, monkeypatch):
    """One lifetime per core at a time (CPU) or all side by side (GPU): the mean over the meta-batch."""
    if cores == "gpu":
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    else:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    learner = build_learner(**METHODS[name])
    # Segments within the loop over the meta-batch, for a local method and one with a second order.
    segmented = (name, cores) in (("flp", 2), ("gradient_second_order", 1))
    episode = random_episode(steps=4 if segmented else 2, lifetimes=4 if cores == 2 else 3)
    compiled = compiled_estimate(Backprop(2), learner, REGRESSION, jit_compile=False)
    assert_close(to_numpy(compiled(episode, SEED)), to_numpy(python_estimate(learner, REGRESSION, episode)))


def test_registered_options():
    options = ESTIMATORS.options("backprop")
    registry.check(options())
    assert registry.Choice(Backprop, options(segment_length=4))().segment_length == 4
    with pytest.raises(InputError, match="--segment_length=-2 is too small"):
        registry.check(options(segment_length=-2))
    registry.check(Engine())
