"""Networks: the text that describes them, the trunk, and its arithmetic."""

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from helpers import (
    REGRESSION,
    assert_close,
    build_learner,
    newborn_learner,
    random_episode,
    to_numpy,
    weights_by_layer,
)

from flp_tf import lifetime
from flp_tf.layers import PlasticConv2D, PlasticDense
from flp_tf.meta.objective import meta_gradient
from flp_tf.networks import ARCHITECTURES, Conv, Dense, Network, parse

PAPER = {
    "sine_paper": tuple(Dense(n) for n in (300, 300, 300, 300, 300, 900, 300, 300)),
    "omniglot_paper": (Conv(128, 2), Conv(128), Conv(128, 2), Conv(128), Conv(128, 2), Conv(128, 2), Dense(300)),
    "mini_imagenet_paper": (Conv(256, 2), Conv(256), Conv(256, 2), Conv(256), Conv(256, 2), Conv(256, 2), Dense(1024)),
}


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_networks(name):
    """Names against the layers of the paper (section 5)."""
    assert parse(name) == PAPER[name]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_name_reads(name):
    assert parse(name) == parse(ARCHITECTURES[name]) and len(parse(name)) > 1


def test_text():
    assert parse("7") == (Dense(7),)
    assert parse("c8s2-c16-20-5") == (Conv(8, 2), Conv(16, 1), Dense(20), Dense(5))


UNREADABLE = ["", "-", "300-", "300--300", "300x", "0", "-5", "3.5", "300s2", "c", "c8s0", "s2", "paper"]


@pytest.mark.parametrize("text", UNREADABLE)
def test_text_that_does_not_read(text):
    """The error names the flag, what was said and what is legal."""
    with pytest.raises(ValueError, match=f"^--network={text} is not an architecture; legal .*sine_paper.* 300-300"):
        parse(text)


def test_convolution_behind_a_dense_layer():
    with pytest.raises(ValueError, match="^--network=30-c8 has a convolution behind a dense layer"):
        parse("30-c8")


@pytest.mark.parametrize("num_plastic_layers", [-1, 0, 4])
def test_impossible_numbers_of_plastic_layers(num_plastic_layers):
    with pytest.raises(ValueError, match=rf"^--num_plastic_layers={num_plastic_layers} .* 3 layers, .* 1 to 3$"):
        Network(parse("5-6"), (4,), 2, num_plastic_layers)


@pytest.mark.parametrize("num_plastic_layers", [1, 2, 3, 4, 5])
def test_trunk_and_head(num_plastic_layers):
    """The last layers are plastic, whatever their kind; the output is linear."""
    network = Network(parse("c3s2-c4-6-5"), (9, 8, 2), 3, num_plastic_layers)
    kinds = [PlasticConv2D, PlasticConv2D, PlasticDense, PlasticDense, PlasticDense][-num_plastic_layers:]
    assert [type(layer) for layer in network.head] == kinds
    assert len(network.trunk) == 5 - num_plastic_layers
    sizes = [(18, 3), (27, 4), (2 * 1 * 4, 6), (6, 5), (5, 3)]
    assert [tuple(fast.shape) for fast in network.initial_state()] == sizes[-num_plastic_layers:]
    assert [tuple(fast.shape) for fast in network.initial_state(2)] == [(2, *s) for s in sizes[-num_plastic_layers:]]
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 7, 9, 8, 2)), tf.float32)
    features = network.encode(x)
    assert features.shape == (2, 7, *network.feature_shape)
    *hidden, output = network.activities(network.initial_state(2), features)[1:]
    assert output.shape == (2, 7, 3) and np.any(output < 0)
    assert all(np.all(h >= 0) for h in hidden)


@pytest.mark.parametrize("axes", [(6,), (3, 2), (4, 3, 2)])
def test_encode(axes, float64):
    """The trunk on examples with any leading axes against NumPy."""
    learner = build_learner(network="5-6-7")
    x = np.random.default_rng(0).normal(size=(*axes, 4))
    layers = to_numpy(weights_by_layer(learner))
    *_, features, _, _ = numpy_reference.forward(layers, [layer["W"] for layer in layers], x.reshape(-1, 4))
    assert_close(learner.encode(tf.constant(x)), features.reshape(*axes, 6))


def test_network_without_a_trunk(float64):
    """All layers plastic: features are the inputs."""
    learner = build_learner(num_plastic_layers=3)
    x = tf.constant(np.random.default_rng(0).normal(size=(3, 2, 4)))
    assert learner.network.trunk_units == 0
    assert_close(learner.encode(x), x, tolerance=0)


@pytest.fixture(scope="module")
def precisions():
    """The same learner with a trunk of float32 and of bfloat16, and an episode."""
    flags = {"network": "64-64-32", "plasticity_scale": 0.001, "plasticity_init": 1, "output_plasticity_init": 1}
    learners = [newborn_learner(trunk_precision=precision, **flags) for precision in ("float32", "bfloat16")]
    assert_close(*[to_numpy(learner.network.weights) for learner in learners], tolerance=0)
    return learners, random_episode(dtype="float32")


def test_bfloat16_trunk_keeps_float32_weights(precisions):
    """Slow and fast weights, features and meta-gradients are float32; the trunk computes in bfloat16."""
    (_, learner), episode = precisions
    assert [layer.compute_dtype for layer in learner.network.trunk] == ["bfloat16"] * 2
    assert [layer.compute_dtype for layer in learner.network.head] == ["float32"] * 2
    assert {weight.dtype for weight in learner.network.weights} == {"float32"}
    state = lifetime.run(learner, episode).state
    features = learner.encode(episode.query_x)
    gradients = meta_gradient(learner, REGRESSION, episode).gradients
    assert {t.dtype for t in (*state, features, *gradients)} == {tf.float32}
    # What has been bfloat16 is the same after another rounding.
    assert np.any(features) and np.array_equal(features, tf.cast(tf.cast(features, tf.bfloat16), tf.float32))


def test_bfloat16_trunk_has_a_small_effect(precisions):
    """Features, outputs and meta-gradients move by the rounding of 8 bits, and they do move."""
    learners, episode = precisions
    features = [learner.encode(episode.query_x).numpy() for learner in learners]
    states = [lifetime.run(learner, episode).state for learner in learners]
    outputs = [learner.predict(state, h).numpy() for learner, state, h in zip(learners, states, features)]
    gradients = [meta_gradient(learner, REGRESSION, episode).gradients for learner in learners]
    flat = [np.concatenate([np.ravel(gradient) for gradient in one]) for one in gradients]
    for (exact, rounded), most in ((features, 0.01), (outputs, 0.01), (flat, 0.03)):
        assert 1e-4 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < most
