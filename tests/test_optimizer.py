"""Adam by group against Adam by hand: rates, clipping and schedules."""

import math

import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_close, build_learner

from flp_tf.config import Config
from flp_tf.meta.optimizer import GroupedAdam, schedule

RATES = {"slow_rate": 0.01, "feedback_rate": 0.02, "plasticity_rate": 0.03, "strength_rate": 0.04}


def random_gradients(learner, seed):
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.normal(size=weight.shape), weight.dtype) for weight in learner.meta_parameters]


def adam(weight, gradients, rate):
    """Returns a weight after a step of Adam (Kingma and Ba, algorithm 1, last lines of section 2) a gradient."""
    m, v = np.zeros_like(weight), np.zeros_like(weight)
    for t, gradient in enumerate(gradients, 1):
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        weight = weight - rate * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
    return weight


def clipped(gradients, limit):
    norm = math.sqrt(sum(np.sum(gradient**2) for gradient in gradients))
    return [gradient * min(1, limit / norm) for gradient in gradients]


@pytest.mark.parametrize("clip_norm", [0.0, 0.5, 1e6])
def test_two_steps(clip_norm):
    """Every weight after two steps, each group at its rate and clipped by itself, against NumPy."""
    learner = build_learner()
    optimizer = GroupedAdam(learner, Config(**RATES, clip_norm=clip_norm), steps=10)
    groups = learner.parameter_groups()
    before = {name: [weight.numpy().astype(np.float64) for weight in weights] for name, weights in groups.items()}
    steps = [random_gradients(learner, seed) for seed in range(2)]
    # Two groups at different distances from the limit, so that joint clipping would show.
    steps = [[gradient * (1 if i % 2 else 3) for i, gradient in enumerate(gradients)] for gradients in steps]
    for gradients in steps:
        optimizer.apply(gradients)
    dealt = [optimizer.split(gradients) for gradients in steps]
    for name, weights in groups.items():
        parts = [[gradient.numpy().astype(np.float64) for gradient in part[name]] for part in dealt]
        if clip_norm:
            parts = [clipped(part, clip_norm) for part in parts]
        for weight, start, *gradients in zip(weights, before[name], *parts, strict=True):
            assert weight.shape == gradients[0].shape
            assert_close(weight.numpy(), adam(start, gradients, RATES[f"{name}_rate"]), tolerance=1e-6)
            assert np.all(np.abs(weight.numpy() - start) > 1e-4)


def test_norms():
    """A group's norm over all its gradients, before clipping."""
    learner = build_learner()
    optimizer = GroupedAdam(learner, Config(clip_norm=0.1), steps=10)
    gradients = random_gradients(learner, 0)
    norms = optimizer.norms(gradients)
    start = 0
    for name, weights in learner.parameter_groups().items():
        part = np.concatenate([np.ravel(gradient) for gradient in gradients[start : start + len(weights)]])
        start += len(weights)
        assert_close(norms[name], np.linalg.norm(part), tolerance=1e-6)


@pytest.mark.parametrize(("method", "groups"), [("oml", ["slow"]), ("gradient", ["slow", "plasticity"])])
def test_empty_groups_are_left_out(method, groups):
    learner = build_learner(method=method)
    optimizer = GroupedAdam(learner, Config(), steps=10)
    assert list(optimizer.groups) == list(optimizer.norms(random_gradients(learner, 0))) == groups
    optimizer.apply(random_gradients(learner, 0))


def test_variables_are_the_whole_state():
    """A second optimizer that is given the first one's variables goes on like it."""
    learner = build_learner()
    config = Config(**RATES, schedule="cosine", warmup_steps=2)
    first, second = (GroupedAdam(learner, config, steps=6) for _ in range(2))
    start = [weight.numpy().copy() for weight in learner.meta_parameters]
    for seed in range(3):
        first.apply(random_gradients(learner, seed))
    middle = [weight.numpy().copy() for weight in learner.meta_parameters]
    state = [variable.numpy().copy() for variable in first.variables]
    first.apply(random_gradients(learner, 3))
    end = [weight.numpy().copy() for weight in learner.meta_parameters]
    assert all(np.any(one != other) for one, other in zip(start, end))
    for variable, value in zip((*learner.meta_parameters, *second.variables), (*middle, *state), strict=True):
        variable.assign(value)
    second.apply(random_gradients(learner, 3))
    assert_close([weight.numpy() for weight in learner.meta_parameters], end, tolerance=0)


def rate_at(step, kind, warmup, steps, rate=0.2):
    """Returns the rate in closed form."""
    if step < warmup:
        return rate * step / warmup
    if kind == "constant":
        return rate
    progress = min((step - warmup) / (steps - warmup), 1)
    return rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("kind", ["constant", "cosine"])
def test_schedule(kind, warmup):
    """The rate at every outer step, and after the last, against its closed form."""
    course = schedule(Config(schedule=kind, warmup_steps=warmup), 0.2, steps=10)
    for step in range(13):
        assert_close(course(step), rate_at(step, kind, warmup, 10), tolerance=1e-6)


def test_schedule_runs_with_the_steps():
    """Under a constant gradient Adam moves a weight by the rate; float32 has `1 - 0.999^t` to 6e-5."""
    learner = build_learner()
    weight = learner.meta_parameters[0]
    optimizer = GroupedAdam(learner, Config(slow_rate=0.2, schedule="cosine", warmup_steps=2), steps=5)
    gradients = [tf.ones_like(weight.value) for weight in learner.meta_parameters]
    for step in range(5):
        before = weight.numpy().copy()
        optimizer.apply(gradients)
        assert_close(before - weight.numpy(), np.full(weight.shape, rate_at(step, "cosine", 2, 5)), tolerance=6e-5)
