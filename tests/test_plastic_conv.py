"""Plastic convolutions against dense layers on explicit patches, and TensorFlow's own convolution."""

import itertools
import math
import os

import numpy as np
import pytest
import tensorflow as tf
from helpers import CLASSIFICATION, assert_close, build_learner, in_mode, kernels_of, meta_gradient, to_numpy

from flp_tf import lifetime, losses
from flp_tf.feedback import DirectFeedback
from flp_tf.layers import PlasticConv2D, PlasticDense
from flp_tf.learners import FeedbackLearner, GradientLearner
from flp_tf.lifetime import engine
from flp_tf.meta.devices import compiled_estimate
from flp_tf.meta.estimators import Backprop
from flp_tf.networks import build, parse
from flp_tf.tasks import Episode

pytestmark = pytest.mark.slow

WAYS = 3
STRIDES = (2, 1)
NETWORK = "c3s2-c4-6"


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def patches_of(maps, strides):
    """The patches of `[..., height, width, channels]`, position by position, as rows."""
    *leading, height, width, channels = maps.shape
    positions = itertools.product(range(0, height - 2, strides), range(0, width - 2, strides))
    patches = [maps[..., i : i + 3, j : j + 3, :].reshape(*leading, 1, 9 * channels) for i, j in positions]
    return np.concatenate(patches, axis=-2).reshape(*leading[:-1], -1, 9 * channels)


@pytest.mark.parametrize(
    ("strides", "lifetimes", "jit_compile"),
    [*itertools.product((1, 2), ((), (3,)), (False,)), (1, (), True), (2, (3,), True)],
)
def test_conv_is_dense_on_patches(strides, lifetimes, jit_compile):
    conv = PlasticConv2D(4, strides=strides, dtype="float64")
    conv.build((None, 7, 6, 2))
    dense = PlasticDense(4, dtype="float64")
    dense.build((None, 18))
    for layer in (conv, dense):
        layer.bias.assign(random(4, seed=1))
        layer.plasticity.assign(random(18, 4, seed=2))
    state = random(*lifetimes, 18, 4, seed=3)
    maps = random(*lifetimes, 2, 7, 6, 2, seed=4)
    activity = tf.function(conv, autograph=False, jit_compile=jit_compile)(maps, {"kernel": state})
    patches = patches_of(maps, strides)
    expected = dense(tf.constant(patches), {"kernel": tf.constant(state)}).numpy()
    positions = (5, 4) if strides == 1 else (3, 2)
    assert activity.shape == (*lifetimes, 2, *positions, 4)
    np.testing.assert_allclose(activity.numpy().reshape(expected.shape), expected, atol=1e-12)
    post = random(*activity.shape, seed=5)
    state = {"kernel": tf.constant(state)}
    updated = tf.function(conv.update, autograph=False, jit_compile=jit_compile)(state, maps, post)
    expected = dense.update(state, tf.constant(patches), tf.constant(post.reshape(expected.shape)))
    np.testing.assert_allclose(updated["kernel"], expected["kernel"], atol=1e-12)


@pytest.mark.parametrize("strides", [1, 2])
def test_conv_with_its_slow_weights_is_a_convolution(strides):
    layer = PlasticConv2D(4, strides=strides, activation="linear", dtype="float64")
    layer.build((None, 7, 6, 2))
    maps = random(2, 7, 6, 2)
    expected = tf.nn.conv2d(maps, layer.kernel, strides, "VALID") + layer.bias
    np.testing.assert_allclose(layer(maps, layer.get_initial_state()), expected, atol=1e-12)


def test_feedback_reaches_every_position_of_a_conv():
    layer = PlasticConv2D(2, feedback=DirectFeedback(WAYS, strength=0.25, dtype="float64"), dtype="float64")
    layer.build((None, 5, 4, 1))
    kernel, bias = layer.feedback.kernels[0], layer.feedback.biases[0]
    bias.assign(random(*bias.shape))
    activity, signal = random(2, 6, 3, 2, 2, seed=1), random(2, 6, WAYS, seed=2)
    z = np.maximum(signal @ kernel.numpy() + bias.numpy(), 0).reshape(activity.shape)
    np.testing.assert_allclose(layer.mix_feedback(activity, signal), 0.75 * activity + 0.25 * z, atol=1e-12)


def feedback_learner(num_plastic_layers):
    def options(is_output):
        feedback = None if is_output else DirectFeedback(WAYS, dtype="float64")
        return {"feedback": feedback, "plasticity_scale": 0.1, "plasticity_init": 0.3}

    network = build(parse(NETWORK), (7, 7, 2), WAYS, num_plastic_layers, options, dtype="float64")
    return FeedbackLearner(network, signal="target", clamp_output=True)


def test_feedback_exists_only_where_a_conv_is_plastic():
    for num_plastic_layers in (1, 2, 3, 4):
        groups = feedback_learner(num_plastic_layers).groups()
        assert len(groups.get("strength", {})) == num_plastic_layers - 1
        assert len(groups.get("feedback", {})) == 2 * (num_plastic_layers - 1)
        assert len(groups["plasticity"]) == num_plastic_layers


def episode(steps, lifetimes):
    labels = np.random.default_rng(0).integers(WAYS, size=(steps * lifetimes + 4 * lifetimes))
    y = np.eye(WAYS)[labels]
    seen = steps * lifetimes
    return Episode(
        tf.constant(random(steps, lifetimes, 1, 7, 7, 2)),
        tf.constant(y[:seen].reshape(steps, lifetimes, 1, WAYS)),
        tf.constant(random(lifetimes, 4, 7, 7, 2, seed=1)),
        tf.constant(y[seen:].reshape(lifetimes, 4, WAYS)),
    )


def forward(weights, biases, x):
    """The whole network, with TensorFlow's convolutions."""
    activities = [x]
    for weight, bias, strides in zip(weights, biases, STRIDES):
        activities.append(tf.nn.relu(tf.nn.conv2d(activities[-1], weight, strides, "VALID") + bias))
    hidden = tf.reshape(activities[-1], [x.shape[0], -1])
    activities.append(tf.nn.relu(hidden @ weights[2] + biases[2]))
    return [*activities, activities[-1] @ weights[3] + biases[3]]


def explicit_lifetime(learner, support_x, support_y):
    """FLP with Oja's rule, written out.

    The Hebbian term of a convolution is the gradient of `sum(post * convolution)` by its kernel.
    """
    trunk, head = learner.network.trunk, learner.network.head
    biases = [layer.bias.value for layer in (*trunk, *head)]
    weights = [layer.kernel.value for layer in (*trunk, *head)]
    first = len(trunk)
    for x, y in zip(support_x, support_y):
        h = forward(weights, biases, x)
        new = list(weights)
        for i, layer in enumerate(head, start=first):
            if i == 3:
                post = y
            else:
                kernel, bias = layer.feedback.kernels[0], layer.feedback.biases[0]
                z = tf.reshape(tf.nn.relu(y @ kernel.value + bias.value), h[i + 1].shape)
                post = (1 - layer.feedback.strength.value) * h[i + 1] + layer.feedback.strength.value * z
            if i < 2:
                hebbian = tf.raw_ops.Conv2DBackpropFilter(
                    input=h[i],
                    filter_sizes=weights[i].shape,
                    out_backprop=post,
                    strides=[1, STRIDES[i], STRIDES[i], 1],
                    padding="VALID",
                )
            else:
                hebbian = tf.transpose(tf.reshape(h[i], [x.shape[0], -1])) @ post
            squares = tf.reduce_sum(tf.square(post), axis=list(range(post.shape.rank - 1)))
            alpha = 0.1 * tf.reshape(layer.plasticity.value, weights[i].shape)
            new[i] = weights[i] + alpha * (hebbian - weights[i] * squares)
        weights = new
    return weights, biases


@pytest.mark.parametrize(
    "num_plastic_layers, segment_length, mode", [(2, 2, "eager"), (3, lifetime.PLAIN, "xla"), (4, 2, "eager")]
)
def test_meta_gradients_equal_those_of_an_explicit_loop(num_plastic_layers, segment_length, mode):
    learner = feedback_learner(num_plastic_layers)
    data = episode(steps=3, lifetimes=2)
    variables = [weight.value for weight in learner.trainable.values()]

    def engine(data):
        with tf.GradientTape() as tape:
            state = lifetime.run(learner, data, segment_length=segment_length).state
            outputs = learner.predict(state, learner.encode(data.query_x))
            loss = tf.reduce_mean(losses.cross_entropy(outputs, data.query_y))
        return loss, tape.gradient(loss, variables)

    with tf.GradientTape() as tape:
        parts = []
        for i in range(2):
            weights, biases = explicit_lifetime(learner, data.support_x[:, i], data.support_y[:, i])
            outputs = forward(weights, biases, data.query_x[i])[-1]
            parts.append(losses.cross_entropy(outputs, data.query_y[i]))
        expected_loss = tf.add_n(parts) / 2
    expected = tape.gradient(expected_loss, variables)
    loss, gradients = in_mode(engine, mode)(data)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-10)
    for path, actual, wanted in zip(learner.trainable, gradients, expected, strict=True):
        assert np.abs(wanted).max() > 0, path
        np.testing.assert_allclose(actual, wanted, rtol=1e-8, atol=1e-10, err_msg=path)


@pytest.mark.parametrize(("trunk", "method"), [("apart", "flp"), ("apart", "gradient"), ("within", "flp")])
def test_convolutional_trunk_outside_of_xla(method, trunk, float64, monkeypatch):
    """A hoisted one is TensorFlow's own, and differentiated through its features, also where a loop runs the lifetimes.

    Either way the meta-gradient is that of the plain loop.
    """
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(engine, "HOISTED_BYTES", math.inf if trunk == "apart" else 0)
    calls, from_features = [], Backprop.estimate_from_features
    monkeypatch.setattr(Backprop, "estimate_from_features", lambda *given: calls.append(1) or from_features(*given))
    task = CLASSIFICATION._replace(input_shape=(7, 7, 2))
    learner = build_learner(task, method=method, network="c3s2-6", num_plastic_layers=1)
    assert learner.network.convolutional_trunk
    # The segments, of two steps, matter to a trunk within them alone.
    data = episode(steps=2 if trunk == "apart" else 4, lifetimes=2)
    expected = meta_gradient(learner, CLASSIFICATION, data, lifetime.PLAIN)
    seed = tf.zeros([2], tf.int32)
    function = compiled_estimate(Backprop(segment_length=2), learner, CLASSIFICATION)
    operations = {operation.type for operation in function.get_concrete_function(data, seed).graph.get_operations()}
    assert ("Conv2D" in operations) == bool(calls) == (trunk == "apart")
    assert all(np.any(gradient) for gradient in tf.nest.flatten(expected.gradients))
    assert_close(to_numpy(function(data, seed)), to_numpy(expected))


def test_gradient_method_descends_through_plastic_convolutions():
    options = {"plasticity_scale": 0.1, "plasticity_init": 1.0}
    network = build(parse(NETWORK), (7, 7, 2), WAYS, 4, lambda is_output: options, dtype="float64")
    learner = GradientLearner(network, losses.cross_entropy)
    data = episode(steps=1, lifetimes=1)
    state = lifetime.run(learner, data).state
    weights = [layer.kernel.value for layer in network.head]
    with tf.GradientTape() as tape:
        tape.watch(weights)
        outputs = forward(weights, [layer.bias.value for layer in network.head], data.support_x[0, 0])[-1]
        loss = losses.cross_entropy(outputs, data.support_y[0, 0])
    for fast, weight, gradient in zip(kernels_of(learner, state), weights, tape.gradient(loss, weights), strict=True):
        np.testing.assert_allclose(tf.reshape(fast[0], weight.shape), weight - 0.1 * gradient, atol=1e-12)


@pytest.mark.parametrize("network, input_shape", [("c4s2-c4s2-8", (6, 6, 1)), ("c4-8", (11,))])
@pytest.mark.parametrize("num_plastic_layers", [1, 3])
def test_convolution_without_a_large_enough_map_is_refused(network, input_shape, num_plastic_layers):
    with pytest.raises(ValueError, match="--network: convolution . gets inputs of .*at least 3x3"):
        build(parse(network), input_shape, WAYS, num_plastic_layers)
