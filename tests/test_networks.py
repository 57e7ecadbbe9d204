"""Networks: the text that describes them, the trunk, and its arithmetic."""

import keras
import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from helpers import (
    MODES,
    REGRESSION,
    assert_close,
    build_learner,
    in_mode,
    meta_gradient,
    newborn_learner,
    random_episode,
    to_numpy,
    weights_by_layer,
)

from flp_tf import lifetime
from flp_tf.component import GROUPS
from flp_tf.errors import InputError
from flp_tf.layers import PlasticConv2D, PlasticDense
from flp_tf.networks import ARCHITECTURES, Conv, Dense, Network, architectures, build, parse

PAPER = {
    "sine_paper": tuple(Dense(n) for n in (300, 300, 300, 300, 300, 900, 300, 300)),
    "omniglot_paper": (Conv(128, 2), Conv(128), Conv(128, 2), Conv(128), Conv(128, 2), Conv(128, 2), Dense(300)),
    "mini_imagenet_paper": (Conv(256, 2), Conv(256), Conv(256, 2), Conv(256), Conv(256, 2), Conv(256, 2), Dense(1024)),
}


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_networks(name):
    """Names against the layers of the paper (appendix B)."""
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
        build(parse("5-6"), (4,), 2, num_plastic_layers)


@pytest.mark.parametrize("num_plastic_layers", [1, 2, 3, 4, 5])
def test_trunk_and_head(num_plastic_layers):
    """The last layers are plastic, whatever their kind; the output is linear."""
    network = build(parse("c3s2-c4-6-5"), (9, 8, 2), 3, num_plastic_layers)
    kinds = [PlasticConv2D, PlasticConv2D, PlasticDense, PlasticDense, PlasticDense][-num_plastic_layers:]
    assert [type(layer) for layer in network.head] == kinds
    assert len(network.trunk) == 5 - num_plastic_layers
    sizes = [(18, 3), (27, 4), (2 * 1 * 4, 6), (6, 5), (5, 3)]
    names = [f"layer_{i}" for i in range(5)]
    assert list(network.layers) == [layer.name for layer in (*network.trunk, *network.head)] == names
    for seeds, axes in ((None, ()), (tf.zeros([2, 2], tf.int32), (2,))):
        state = network.initial_state(seeds)
        assert list(state) == names[-num_plastic_layers:]
        shapes = [tuple(layer["kernel"].shape) for layer in state.values()]
        assert shapes == [(*axes, *size) for size in sizes[-num_plastic_layers:]]
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 7, 9, 8, 2)), tf.float32)
    features = network.encode(x)
    assert features.shape == (2, 7, *network.feature_shape)
    *hidden, output = network.activities(state, features)[1:]
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
    for layers in zip(*[learner.network.trunk for learner in learners]):
        bias = np.random.default_rng(0).normal(0, 0.1, layers[0].bias.shape)
        for layer in layers:
            layer.bias.assign(bias)
    assert_close(*[to_numpy(learner.variables) for learner in learners], tolerance=0)
    return learners, random_episode(dtype="float32")


def test_bfloat16_trunk_keeps_float32_weights(precisions):
    """Slow and fast weights, features and meta-gradients are float32; the trunk computes in bfloat16."""
    (_, learner), episode = precisions
    assert [layer.compute_dtype for layer in learner.network.trunk] == ["bfloat16"] * 2
    assert [layer.compute_dtype for layer in learner.network.head] == ["float32"] * 2
    assert {weight.dtype for weight in learner.variables.values()} == {"float32"}
    state = lifetime.run(learner, episode).state
    features = learner.encode(episode.query_x)
    gradients = meta_gradient(learner, REGRESSION, episode).gradients
    assert {t.dtype for t in tf.nest.flatten((state, features, gradients))} == {tf.float32}
    # What has been bfloat16 is the same after another rounding.
    assert np.any(features) and np.array_equal(features, tf.cast(tf.cast(features, tf.bfloat16), tf.float32))


# bfloat16 has 8 significant bits. Rounding to nearest moves a number by up to 2^-8 of it, cutting the other bits
# off by up to 2^-7. Inputs and weights are rounded to nearest everywhere. For the result of an operation it is up
# to the processor: oneDNN's kernels (AVX-512), XLA and convolutions round to nearest, TensorFlow's own matrix product
# (all other processors) cuts off. The bounds below are of the latter, once for each operation.
CUT = 2.0**-7
# Products of bfloat16 are exact in float32, and all kernels add them up in float32, in an order of their own.
FLOAT32 = 2.0**-24


def bfloat16(x):
    """Rounds to nearest; returns float64, in which the references are as good as exact."""
    return tf.cast(tf.cast(x, tf.bfloat16), tf.float64).numpy()


def product(x, w, moved=0.0):
    """Returns `x @ w`, and how far a bfloat16 kernel may be off if its x is off by `moved`."""
    exact = x @ w
    moved = moved @ abs(w) if np.ndim(moved) else 0.0
    moved = moved + x.shape[1] * FLOAT32 * (abs(x) @ abs(w) + moved)
    return exact, moved + CUT * (abs(exact) + moved)


def run_trunk(learner, x, mode="eager"):
    """Returns the input and then the activity of every trunk layer, each from the activity below."""
    activities = [tf.cast(tf.reshape(x, [-1, *learner.network.example_shape]), tf.bfloat16)]
    for layer in learner.network.trunk:
        activities.append(in_mode(layer, mode)(activities[-1]))
    return activities


@pytest.mark.parametrize("mode", MODES)
def test_bfloat16_trunk(precisions, mode):
    """Every layer against NumPy, from the activity below: one rounding of the product, one of the sum with the bias."""
    (_, learner), episode = precisions
    activities = [bfloat16(h) for h in run_trunk(learner, episode.query_x, mode)]
    for layer, below, activity in zip(learner.network.trunk, activities, activities[1:]):
        bias = bfloat16(layer.bias)
        exact, moved = product(below, bfloat16(layer.kernel))
        moved += CUT * (abs(exact + bias) + moved)
        difference = abs(activity - numpy_reference.relu(exact + bias))
        assert np.any(difference) and np.all(difference <= moved)


def test_gradients_of_a_bfloat16_trunk(precisions):
    """Every weight's gradient against NumPy, from the activities of the trunk and a random gradient of its features."""
    (_, learner), episode = precisions
    layers = learner.network.trunk
    with tf.GradientTape() as tape:
        activities = run_trunk(learner, episode.query_x)
    above = tf.random.stateless_normal(activities[-1].shape, [0, 0])
    weights = [(layer.kernel.value, layer.bias.value) for layer in layers]
    gradients = tape.gradient(activities[-1], weights, tf.cast(above, tf.bfloat16))
    activities = [bfloat16(h) for h in activities]
    above, moved = bfloat16(above), np.zeros(above.shape)
    downwards = zip(layers[::-1], activities[-2::-1], activities[:0:-1], gradients[::-1])
    for layer, below, activity, (kernel, bias) in downwards:
        above, moved = above * (activity > 0), moved * (activity > 0)
        exact, most = (t.T for t in product(above.T, below, moved.T))
        difference = abs(kernel - exact)
        assert np.any(difference) and np.all(difference <= most)
        # A kernel may round every partial sum of the examples.
        most = moved.sum(0) + ((1 + CUT) ** len(above) - 1) * (abs(above) + moved).sum(0)
        assert np.any(bias) and np.all(abs(bias - above.sum(0)) <= most)
        above, moved = product(above, bfloat16(layer.kernel).T, moved)


def test_bfloat16_trunk_acts_by_its_features_alone(precisions, monkeypatch):
    """The float32 head makes the same of them as that of the other learner, and they do have an effect."""
    (exact, rounded), episode = precisions

    def results(learner):
        state = lifetime.run(learner, episode).state
        features = learner.encode(episode.query_x)
        gradients = meta_gradient(learner, REGRESSION, episode).gradients
        return to_numpy((features, learner.predict(state, features), state, gradients))

    encode = exact.encode
    expected, found = results(exact), results(rounded)
    for one, other in zip(tf.nest.flatten(expected), tf.nest.flatten(found)):
        # Far above float32's 1e-7. The states move least, by 2e-4: most of what they hold is the slow weights.
        assert np.linalg.norm(one - other) > 1e-5 * np.linalg.norm(one)
    # Features of the bfloat16 trunk, gradients of the other.
    monkeypatch.setattr(exact, "encode", lambda x: encode(x) + tf.stop_gradient(rounded.encode(x) - encode(x)))
    expected = results(exact)
    trunk = [f"network/layers/{layer.name}/" for layer in exact.network.trunk]
    of_head = [
        {
            path: gradient
            for group in gradients.values()
            for path, gradient in group.items()
            if not path.startswith(tuple(trunk))
        }
        for *_, gradients in (found, expected)
    ]
    assert 0 < len(of_head[0]) < len(exact.trainable)
    assert_close(found[:3], expected[:3], tolerance=1e-5)
    assert_close(*of_head, tolerance=1e-5)


def test_layers_of_one_name_are_refused():
    layers = [PlasticDense(3, name="same") for _ in range(2)]
    with pytest.raises(ValueError, match="layers of different names"):
        Network([], layers, (4,))
    with pytest.raises(ValueError, match="at least one plastic layer"):
        Network([], [], (4,))


@pytest.mark.parametrize("name", GROUPS)
def test_layers_with_the_name_of_a_group_are_refused(name):
    with pytest.raises(InputError, match=f"a layer cannot be named {name}, which is a group of weights"):
        Network([keras.layers.Dense(3, name=name)], [PlasticDense(3)], (4,))


def test_layers_of_another_type_are_refused():
    with pytest.raises(InputError, match="layer output computes in float64, its network in float32"):
        Network([], [PlasticDense(3, name="output", dtype="float64")], (4,))


@pytest.mark.parametrize(
    ("text", "shape", "weights"),
    [("30-20", (7,), 7 * 30 + 30 * 20 + 20 * 2), ("c4-5", (5, 5, 3), 9 * 3 * 4 + 36 * 5 + 5 * 2)],
)
def test_weights_that_do_not_fit_into_memory_are_refused(text, shape, weights, monkeypatch):
    monkeypatch.setattr(architectures, "memory", lambda: 4 * weights)
    build(parse(text), shape, 2, 1)
    monkeypatch.setattr(architectures, "memory", lambda: 4 * weights - 1)
    with pytest.raises(InputError, match=f"^--network: the layers have {weights} weights, .* GB; this machine has"):
        build(parse(text), shape, 2, 1)
