"""FLP's inner step and meta-gradients against NumPy: all its settings, where no original is at hand."""

import itertools

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from helpers import (
    CLASSIFICATION,
    REGRESSION,
    SMALL,
    assert_close,
    build_learner,
    gradients_by_layer,
    kernels_of,
    meta_gradient,
    random_episode,
    to_numpy,
    weights_by_layer,
)

from flp_tf import lifetime
from flp_tf.learners.flp import PRESYNAPTIC, SIGNALS

STEPS = 3
# Flags that are also arguments of the reference.
SETTINGS = (
    "rule",
    "feedback_signal",
    "clamp_output",
    "presynaptic",
    "feedback_activation",
    "plasticity_scale",
    "hidden_plasticity_factor",
)
CLAMPED = {"feedback_signal": "target", "clamp_output": True, "hidden_plasticity_factor": 2.0}
VARIANTS = {
    "paper": {},
    "output_only": {"num_plastic_layers": 1},
    "all_layers": {"num_plastic_layers": 3},
    "hebb": {"rule": "hebb", "num_plastic_layers": 3},
    "target": {"feedback_signal": "target"},
    "clamped": CLAMPED,
    "clamped_error": {**CLAMPED, "feedback_signal": "error", "num_plastic_layers": 3},
    "clamped_hebb_all": {**CLAMPED, "rule": "hebb", "num_plastic_layers": 3},
    "post_feedback": {"presynaptic": "post_feedback", "num_plastic_layers": 3},
    "post_feedback_clamped": {**CLAMPED, "presynaptic": "post_feedback"},
    "linear_feedback": {"feedback_activation": "linear"},
    "feedback_layers": {"feedback_units": (4, 3), "num_plastic_layers": 3},
    "linear_feedback_layers": {"feedback_units": (4,), "feedback_activation": "linear"},
    "per_neuron": {"granularity": "per_neuron", "num_plastic_layers": 3},
    "per_layer": {"granularity": "per_layer"},
    "dfa": {"method": "dfa", "feedback_units": (4,)},
    "dfa_output_feedback": {"method": "dfa", "hidden_feedback": False, "num_plastic_layers": 3},
    "output_feedback_clamped": {**CLAMPED, "presynaptic": "post_feedback", "hidden_feedback": False},
}


def task_of(flags):
    return CLASSIFICATION if flags.get("clamp_output") else REGRESSION


def build(flags):
    return build_learner(task_of(flags), **{"plasticity_scale": 0.05, **flags})


def reference(weights, episode, i, flags):
    """Returns lifetime `i` of an episode by the reference, under the same flags."""
    flags = {**SMALL, "plasticity_scale": 0.05, **flags}
    settings = {name: flags[name] for name in SETTINGS if name in flags}
    xs, ys = (part[:, i] for part in to_numpy(episode)[:2])
    return numpy_reference.lifetime(weights, xs, ys, **settings)


def reference_loss(weights, episode, flags):
    """Returns the query loss, mean over lifetimes."""
    loss = numpy_reference.cross_entropy if flags.get("clamp_output") else numpy_reference.mean_squared_error
    losses = []
    for i, (x, y) in enumerate(zip(episode.query_x.numpy(), episode.query_y.numpy())):
        fast = reference(weights, episode, i, flags).fast
        losses.append(loss(numpy_reference.forward(weights, fast, x)[-1], y))
    return np.mean(losses)


def assert_lifetimes_match(flags):
    """Compares outputs before every update and final fast weights of two lifetimes."""
    learner = build(flags)
    episode = random_episode(task_of(flags), steps=STEPS)
    state, outputs = lifetime.run(learner, episode, trace=lambda t, state, x, y, new: learner.predict(state, x))
    first = to_numpy(kernels_of(learner, learner.initial_state()))
    final = kernels_of(learner, state)
    for i in range(2):
        result = reference(to_numpy(weights_by_layer(learner)), episode, i, flags)
        assert_close(outputs[:, i], result.outputs)
        for fast, expected, slow in zip(final, result.fast[-len(final) :], first, strict=True):
            assert_close(fast[i], expected)
            assert np.max(np.abs(expected - slow)) > 1e-3, "the layer has to learn for the comparison to mean anything"


@pytest.mark.parametrize(
    "num_plastic_layers, clamp_output, rule",
    [(1, False, "oja"), (1, True, "hebb"), (2, False, "hebb"), (2, True, "oja"), (3, False, "oja"), (3, True, "hebb")],
)
def test_lifetimes(num_plastic_layers, clamp_output, rule, float64):
    """Every signal and presynaptic activity, against the reference; of the rest every pair of values."""
    for signal, presynaptic in itertools.product(SIGNALS, PRESYNAPTIC):
        flags = {"num_plastic_layers": num_plastic_layers, "clamp_output": clamp_output}
        assert_lifetimes_match({**flags, "rule": rule, "feedback_signal": signal, "presynaptic": presynaptic})


@pytest.mark.parametrize("variant", VARIANTS)
def test_lifetimes_of_variants(variant, float64):
    """Feedback pathways, granularities and scales too, against the reference."""
    assert_lifetimes_match(VARIANTS[variant])


@pytest.mark.parametrize("variant", VARIANTS)
def test_meta_gradients(variant, float64):
    """Loss, and meta-gradients of random entries of every weight, against derivatives of the reference."""
    flags = VARIANTS[variant]
    learner = build(flags)
    episode = random_episode(task_of(flags), steps=STEPS)
    loss, _, gradients = meta_gradient(learner, task_of(flags), episode, segment_length=2)
    weights = to_numpy(weights_by_layer(learner))
    assert_close(loss, reference_loss(weights, episode, flags))
    rng = np.random.default_rng(1)
    compared, significant = 0, 0
    for leaf, gradient in enumerate(tf.nest.flatten(gradients_by_layer(learner, gradients))):
        if gradient is None:
            assert variant.startswith("dfa"), "only its feedback weights are fixed"
            continue
        for _ in range(min(2, gradient.size)):
            index = tuple(rng.integers(size) for size in gradient.shape)
            expected = numpy_reference.derivative(lambda w: reference_loss(w, episode, flags), weights, leaf, index)
            assert_close(gradient[index], expected)
            compared, significant = compared + 1, significant + (abs(expected) > 1e-6)
    assert compared >= 2 * len(weights) and significant > compared / 2


def test_derivative_is_a_finite_difference(float64):
    """The complex step of the reference against central differences of it."""
    learner = build({})
    episode = random_episode(steps=STEPS)
    weights = to_numpy(weights_by_layer(learner))
    leaves = tf.nest.flatten(weights)
    for leaf, weight in enumerate(leaves):
        index = tuple(np.random.default_rng(leaf).integers(size) for size in weight.shape)

        def loss_at(offset, leaf=leaf, index=index):
            moved = [leaf_weight.copy() for leaf_weight in leaves]
            moved[leaf][index] += offset
            return reference_loss(tf.nest.pack_sequence_as(weights, moved), episode, {})

        difference = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5
        derivative = numpy_reference.derivative(lambda w: reference_loss(w, episode, {}), weights, leaf, index)
        assert_close(derivative, difference, 1e-7)
