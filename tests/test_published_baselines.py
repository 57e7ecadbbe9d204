"""What the published gradient baselines do beyond the paper: plastic biases, and an output layer drawn anew."""

import functools
import itertools
import math

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from helpers import (
    CLASSIFICATION,
    REGRESSION,
    assert_close,
    build_learner,
    in_mode,
    in_order,
    kernels_of,
    meta_gradient,
    newborn_learner,
    random_episode,
    to_numpy,
    weights_by_layer,
)

from flp_tf import lifetime
from flp_tf.errors import InputError
from flp_tf.layers import PlasticConv2D
from flp_tf.runs.config import configure

LOSSES = {
    "regression": (REGRESSION, numpy_reference.mean_squared_error),
    "classification": (CLASSIFICATION, numpy_reference.cross_entropy),
}


def rates_of(learner):
    """Returns the rates of kernel and bias of every plastic layer, from `inner_rate` and the weights."""
    if learner.label == "OML":
        return [(0.05, 0.05)] * learner.network.depth
    return [
        (0.05 * layer.plasticity.numpy(), 0.05 * layer.of_bias["plasticity"].numpy()) for layer in learner.network.head
    ]


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("num_plastic_layers", [1, 3])
@pytest.mark.parametrize("method", ["gradient", "oml"])
def test_plastic_biases_take_gradient_steps(method, num_plastic_layers, kind, float64):
    """Every kernel and bias after a lifetime of three steps, against derivatives in NumPy."""
    task, loss = LOSSES[kind]
    learner = build_learner(task, method=method, plastic_biases=True, num_plastic_layers=num_plastic_layers)
    episode = random_episode(task, steps=3).lifetime(0)
    weights = [[layer["W"], layer["b"]] for layer in to_numpy(weights_by_layer(learner))]
    rates, first = rates_of(learner), len(weights) - num_plastic_layers

    def inner_loss(now, x, y):
        layers = [{"b": bias} for _, bias in now]
        return loss(numpy_reference.forward(layers, [kernel for kernel, _ in now], x)[-1], y)

    for x, y in zip(episode.support_x[:, 0].numpy(), episode.support_y[:, 0].numpy()):
        of_step = functools.partial(inner_loss, x=x, y=y)
        gradients = [[np.zeros_like(part) for part in layer] for layer in weights]
        for leaf, gradient in enumerate(tf.nest.flatten(gradients)):
            for index in itertools.product(*map(range, gradient.shape)):
                gradient[index] = numpy_reference.derivative(of_step, weights, leaf, index)
        for i in range(first, len(weights)):
            for part in range(2):
                weights[i][part] = weights[i][part] - rates[i - first][part] * gradients[i][part]
    state = lifetime.run(learner, episode).state
    for layer, (kernel, bias) in zip(learner.network.head, weights[first:]):
        assert_close((state[layer.name]["kernel"][0], state[layer.name]["bias"][0]), (kernel, bias))
        assert np.any(bias != layer.bias.numpy())
    query = numpy_reference.forward([{"b": b} for _, b in weights], [w for w, _ in weights], episode.query_x[0].numpy())
    assert_close(lifetime.query(learner, state, episode)[0], query[-1])


def autodiff_of_a_loop(learner, episode, second_order):
    """Returns meta-gradients of gradient descent on kernels and biases, written out in Python."""
    layers, trainable = learner.network.head, [weight.value for weight in learner.trainable.values()]

    def forward(fast, x):
        for i, (kernel, bias) in enumerate(fast):
            x = x @ kernel + bias
            x = x if i == len(fast) - 1 else tf.nn.relu(x)
        return x

    with tf.GradientTape() as tape:
        rates = [(0.05 * layer.plasticity.value, 0.05 * layer.of_bias["plasticity"].value) for layer in layers]
        fast = [tuple(map(tf.convert_to_tensor, (layer.kernel.value, layer.bias.value))) for layer in layers]
        for x, y in zip(episode.support_x[:, 0], episode.support_y[:, 0]):
            with tf.GradientTape() as inner:
                inner.watch(fast)
                value = tf.reduce_mean((forward(fast, x) - y) ** 2)
            gradients = inner.gradient(value, fast)
            gradients = gradients if second_order else tf.nest.map_structure(tf.stop_gradient, gradients)
            fast = tf.nest.map_structure(lambda weight, rate, slope: weight - rate * slope, fast, rates, gradients)
        value = tf.reduce_mean((forward(fast, episode.query_x[0]) - episode.query_y[0]) ** 2)
    return tape.gradient(value, trainable)


@pytest.mark.parametrize("second_order", [False, True])
def test_meta_gradients_of_plastic_biases(second_order, float64):
    learner = build_learner(method="gradient", plastic_biases=True, second_order=second_order, num_plastic_layers=3)
    episode = random_episode().lifetime(0)
    gradients = in_order(learner, meta_gradient(learner, REGRESSION, episode, 3).gradients)
    assert_close(gradients, autodiff_of_a_loop(learner, episode, second_order))
    assert all(np.any(gradient) for gradient in gradients)


def test_biases_have_rates_of_their_own_in_the_group_of_plasticity():
    """One for each bias, meta-learned, from the inner rate; OML has its fixed rate."""
    learner = newborn_learner(method="gradient", plastic_biases=True, inner_rate=0.02)
    paths = [path for path in learner.groups()["plasticity"] if "of_bias" in path]
    assert [learner.trainable[path].shape for path in paths] == [(6,), (2,)]
    for layer in learner.network.head:
        assert_close(layer.rates["bias"], np.full(layer.bias.shape, 0.02, np.float32), 1e-7)
    oml = newborn_learner(method="oml", plastic_biases=True, inner_rate=0.02)
    assert "plasticity" not in oml.groups()
    assert_close([layer.rates["bias"] for layer in oml.network.head], [np.full(1, 0.02, np.float32)] * 2, 1e-7)


@pytest.mark.parametrize("second_order", [False, True])
def test_learned_rates_may_start_at_zero(second_order, float64, eager):
    """Nothing moves in a lifetime, and the first outer step has a gradient by every rate: it moves by the scale."""
    flags = {"plastic_biases": True, "inner_rate": 0.0, "inner_rate_scale": 0.02, "second_order": second_order}
    learner, episode = newborn_learner(method="gradient", **flags), random_episode(steps=2)
    start = learner.initial_state(episode.seed)
    assert_close(lifetime.run(learner, episode).state, start, tolerance=0)
    gradients = meta_gradient(learner, REGRESSION, episode).gradients["plasticity"]
    assert all(np.any(gradient) for gradient in gradients.values())
    for path, weight in learner.groups()["plasticity"].items():
        assert not np.any(weight.numpy())
        weight.assign(-tf.sign(gradients[path]))
    for layer in learner.network.head:
        assert np.max(np.abs(layer.rates["kernel"])) == np.max(np.abs(layer.rates["bias"])) == 0.02
    moved = meta_gradient(learner, REGRESSION, episode).loss
    assert moved != meta_gradient(newborn_learner(method="gradient", **flags), REGRESSION, episode).loss


def test_the_scale_of_learned_rates():
    """By itself it changes no rate that the network starts with; rates that start at 0 need one."""
    for layer in newborn_learner(method="gradient", inner_rate=0.02, inner_rate_scale=0.1).network.head:
        assert_close(layer.rates["kernel"], np.full(layer.kernel.shape, 0.02, np.float32), 1e-7)
        assert_close(layer.plasticity.numpy(), np.full(layer.kernel.shape, 0.2, np.float32), 1e-7)
    with pytest.raises(InputError, match="^--inner_rate=0 needs --inner_rate_scale, .* such as 0.001$"):
        newborn_learner(method="gradient", inner_rate=0.0)
    assert not np.any(newborn_learner(method="oml", inner_rate=0.0).network.head[0].rates["kernel"])


def test_plastic_bias_of_a_convolution(float64):
    """Every position has the bias of its lifetime."""
    layer = PlasticConv2D(3, strides=2, plastic_bias=True, dtype="float64")
    layer.build((None, 7, 7, 2))
    rng = np.random.default_rng(0)
    bias, maps = rng.normal(size=(2, 3)), rng.normal(size=(2, 4, 7, 7, 2))
    start = layer.get_initial_state(tf.zeros([2, 2], tf.int32))
    assert_close(start["bias"], np.zeros((2, 3)))
    activity = layer(tf.constant(maps), {**start, "bias": tf.constant(bias)})
    for i in range(2):
        expected = np.maximum(tf.nn.conv2d(maps[i], layer.kernel.value, 2, "VALID") + bias[i], 0)
        assert_close(activity[i], expected)


SEEDS = np.stack([np.full(3000, 5), np.arange(3000)], -1).astype(np.int32)


def drawn(learner):
    """Returns the first kernels of as many lifetimes as there are seeds."""
    return kernels_of(learner, tf.function(learner.initial_state, autograph=False)(tf.constant(SEEDS)))


@pytest.mark.parametrize("method", ["gradient", "oml"])
def test_output_layer_is_drawn_anew_in_every_lifetime(method, float64):
    """He-normal, whatever the slow kernel is; hidden layers start from theirs."""
    learner = build_learner(method=method, redraw_output=True)
    hidden, output = drawn(learner)
    assert_close(hidden, np.broadcast_to(learner.network.head[0].kernel, hidden.shape))
    assert output.shape == (3000, 6, 2) and len(np.unique(output)) == 3000 * 12
    spread = math.sqrt(2 / 6)
    assert np.max(np.abs(np.mean(output, 0))) < 5 * spread / math.sqrt(3000)
    assert np.max(np.abs(np.std(output, 0) / spread - 1)) < 5 / math.sqrt(6000)
    again = in_mode(lambda: learner.initial_state(tf.constant(SEEDS[:4])), "xla")()
    assert_close(kernels_of(learner, again)[1], output[:4])


def test_a_lifetime_goes_on_from_what_was_drawn(float64):
    """Its loss is that of a learner whose slow output kernel is what was drawn; that kernel itself is not learned."""
    learner = build_learner(method="gradient", redraw_output=True)
    episode = random_episode().lifetime(1)
    found = meta_gradient(learner, REGRESSION, episode)
    fixed = build_learner(method="gradient")
    fixed.network.head[-1].kernel.assign(kernels_of(learner, learner.initial_state(episode.seed))[-1][0])
    expected = meta_gradient(fixed, REGRESSION, episode)
    assert_close(found.loss, expected.loss)
    for path, gradient in expected.gradients["slow"].items():
        is_output = path.endswith("layer_2/kernel")
        assert_close(found.gradients["slow"][path], np.zeros(gradient.shape) if is_output else gradient)
    assert_close(found.gradients["plasticity"], expected.gradients["plasticity"])


def test_initial_distribution_for_all_plastic_layers(float64):
    learner = build_learner(initial="redrawn")
    kernels = drawn(learner)
    for kernel, layer in zip(kernels, learner.network.head):
        assert np.std(kernel) == pytest.approx(math.sqrt(2 / layer.fan_in), rel=0.02)
    slow = kernels_of(learner, learner.initial_state())
    assert_close(slow, [layer.kernel.value for layer in learner.network.head])


def test_an_initial_distribution_without_a_layer_is_refused(float64):
    options = {"method": "gradient", "redraw_output": True, "num_plastic_layers": 1}
    build_learner(**options)
    build_learner(**options | {"num_plastic_layers": 2}, initial="gaussian")
    with pytest.raises(InputError, match="^--initial has no effect with --redraw_output and --num_plastic_layers=1"):
        build_learner(**options, initial="gaussian")


@pytest.mark.parametrize("flag", ["plastic_biases", "redraw_output"])
def test_options_are_those_of_the_gradient_baselines(flag):
    for method in ("gradient", "oml"):
        assert getattr(configure(method=method, **{flag: True}), flag)
    with pytest.raises(InputError, match=f"--{flag} does not go with --method=flp; it goes with --method=gradient, --"):
        configure(method="flp", **{flag: True})
