"""One inner step of every method, and which weights each of them meta-learns."""

import itertools

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from helpers import (
    CLASSIFICATION,
    METHODS,
    REGRESSION,
    assert_close,
    build_learner,
    gradients_by_layer,
    in_order,
    kernels_of,
    meta_gradient,
    newborn_learner,
    random_episode,
    to_numpy,
    weights_by_layer,
)

from flp_tf import losses
from flp_tf.component import GROUPS
from flp_tf.learners import FeedbackLearner

LOSSES = {
    "regression": (REGRESSION, numpy_reference.mean_squared_error),
    "classification": (CLASSIFICATION, numpy_reference.cross_entropy),
}


def one_step(learner, episode):
    """Returns the fast weights before and after the first inner step, by layer."""
    state = learner.initial_state(episode.seed)
    after = learner.learn(state, learner.encode(episode.support_x[0]), episode.support_y[0])
    return tuple(to_numpy(kernels_of(learner, state))), tuple(to_numpy(kernels_of(learner, after)))


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("num_plastic_layers", [1, 3])
@pytest.mark.parametrize("name", ["gradient_first_order", "gradient_second_order", "oml"])
def test_gradient_step(name, num_plastic_layers, kind, float64):
    """The inner update of every synapse against derivatives of the inner loss in NumPy."""
    task, loss = LOSSES[kind]
    learner = build_learner(task, **{**METHODS[name], "num_plastic_layers": num_plastic_layers})
    episode = random_episode(task).lifetime(0)
    weights = to_numpy(weights_by_layer(learner))
    x, y = episode.support_x[0, 0].numpy(), episode.support_y[0, 0].numpy()

    def inner_loss(fast):
        return loss(numpy_reference.forward(weights, fast, x)[-1], y)

    kernels = [layer["W"] for layer in weights]
    before, after = one_step(learner, episode)
    for i in range(3 - num_plastic_layers, 3):
        layer = i - 3 + num_plastic_layers
        gradient = np.zeros_like(kernels[i])
        for index in itertools.product(*map(range, gradient.shape)):
            gradient[index] = numpy_reference.derivative(inner_loss, kernels, i, index)
        rate = 0.05 if name == "oml" else 0.05 * weights[i]["a"]
        assert np.any(gradient)
        assert_close(after[layer][0] - before[layer][0], -rate * gradient)


def autodiff_of_a_loop(learner, episode, second_order):
    """Returns meta-gradients of gradient descent written out in Python, without the library's layers."""
    layers = weights_by_layer(learner)
    support_x, support_y, query_x, query_y = (part[:, 0] if i < 2 else part[0] for i, part in enumerate(episode[:4]))

    def forward(kernels, x):
        for i, (kernel, layer) in enumerate(zip(kernels, layers)):
            x = x @ kernel + layer["b"].value
            x = x if i == len(layers) - 1 else tf.nn.relu(x)
        return x

    def loss(kernels, x, y):
        return tf.reduce_mean((forward(kernels, x) - y) ** 2)

    with tf.GradientTape() as tape:
        rates = [0.05 * layer["a"].value if "a" in layer else None for layer in layers]
        kernels = [tf.convert_to_tensor(layer["W"].value) for layer in layers]
        for x, y in zip(support_x, support_y):
            plastic = [kernel for kernel, rate in zip(kernels, rates) if rate is not None]
            with tf.GradientTape() as inner:
                inner.watch(plastic)
                value = loss(kernels, x, y)
            gradients = inner.gradient(value, plastic)
            gradients = gradients if second_order else [tf.stop_gradient(gradient) for gradient in gradients]
            first = len(kernels) - len(plastic)
            kernels[first:] = [w - rate * g for w, rate, g in zip(plastic, rates[first:], gradients)]
        value = loss(kernels, query_x, query_y)
    return tape.gradient(value, [weight.value for weight in learner.trainable.values()])


@pytest.mark.parametrize("num_plastic_layers", [1, 3])
@pytest.mark.parametrize("second_order", [False, True])
def test_gradient_meta_gradients(second_order, num_plastic_layers, float64):
    """Meta-gradients of both orders against autodiff of an explicit loop; they are not the same."""
    learner = build_learner(method="gradient", second_order=second_order, num_plastic_layers=num_plastic_layers)
    episode = random_episode().lifetime(0)
    gradients = in_order(learner, meta_gradient(learner, REGRESSION, episode, 3).gradients)
    assert_close(gradients, autodiff_of_a_loop(learner, episode, second_order))
    other = autodiff_of_a_loop(learner, episode, not second_order)
    assert max(np.max(np.abs(one - two)) for one, two in zip(gradients, other)) > 1e-3


def test_second_order_by_finite_differences(float64):
    """A meta-gradient that neither tape can have wrong in the same way: NumPy, both orders deep."""
    learner = build_learner(method="gradient", second_order=True, num_plastic_layers=1)
    episode = random_episode(steps=1).lifetime(0)
    weights = to_numpy(weights_by_layer(learner))
    x, y = (part[0, 0].numpy() for part in episode[:2])
    query_x, query_y = (part[0].numpy() for part in episode[2:4])

    def loss(weights):
        # The output layer is linear: its inner gradient stands on one line.
        *_, h, output = numpy_reference.forward(weights, [layer["W"] for layer in weights], x)
        gradient = 2 * h.T @ (output - y) / y.size
        fast = [*(layer["W"] for layer in weights[:-1]), weights[-1]["W"] - 0.05 * weights[-1]["a"] * gradient]
        return numpy_reference.mean_squared_error(numpy_reference.forward(weights, fast, query_x)[-1], query_y)

    value, _, gradients = meta_gradient(learner, REGRESSION, episode)
    assert_close(value, loss(weights))
    for leaf, gradient in enumerate(tf.nest.flatten(gradients_by_layer(learner, gradients))):
        for index in itertools.product(*map(range, gradient.shape)):
            assert_close(gradient[index], numpy_reference.derivative(loss, weights, leaf, index))


def test_oml_has_one_fixed_rate(float64):
    """Its steps are those of gradient descent at `--inner_rate`, which no outer step moves."""
    oml = build_learner(method="oml", inner_rate=0.02)
    assert "plasticity" not in oml.groups()
    assert [layer.alpha.shape for layer in oml.network.head] == [(1, 1), (1, 1)]
    gradient = build_learner(method="gradient", inner_rate=0.02)
    for one, other in zip(weights_by_layer(oml), weights_by_layer(gradient)):
        other["W"].assign(one["W"])
        other["b"].assign(one["b"])
        if "a" in other:
            other["a"].assign(tf.ones(other["a"].shape))
    episode = random_episode()
    assert_close(one_step(oml, episode), one_step(gradient, episode))
    double = build_learner(method="oml", inner_rate=0.04)
    (before, after), (_, further) = one_step(oml, episode), one_step(double, episode)
    assert_close(tuple(2 * (b - a) for a, b in zip(before, after)), tuple(b - a for a, b in zip(before, further)))


def test_gradient_starts_at_the_inner_rate():
    """Its rates are `--inner_rate` for every synapse at first."""
    for layer in newborn_learner(method="gradient", inner_rate=0.02).network.head:
        assert_close(layer.alpha, np.full(layer.kernel.shape, 0.02, np.float32))


def test_dfa_keeps_its_feedback_weights():
    """Fixed, random and in use: `B` is not meta-learned, `c`, `beta` and all else is."""
    dfa, flp = build_learner(method="dfa"), build_learner(method="flp")
    pathways = [layer.feedback for layer in dfa.network.head]
    fixed = [weight for pathway in pathways for weight in pathway.kernels]
    learned = {id(weight) for weight in dfa.trainable.values()}
    assert len(fixed) == 2 and not learned & {id(weight) for weight in fixed}
    assert len(dfa.trainable) == len(flp.trainable) - len(fixed)
    assert dfa.variables.keys() == flp.variables.keys()
    groups = dfa.groups()
    assert [id(weight) for weight in groups["feedback"].values()] == [id(c) for p in pathways for c in p.biases]
    assert len(groups["strength"]) == len(groups["plasticity"]) == 2
    episode = random_episode(dtype="float32")
    before = one_step(dfa, episode)[1]
    for pathway in pathways:
        assert np.all(pathway.kernels[0])
        pathway.kernels[0].assign(-pathway.kernels[0])
    assert not np.allclose(before[0], one_step(dfa, episode)[1][0])


def test_feature_reuse_changes_the_output_alone():
    """It is FLP with one plastic layer: all hidden layers are trunk."""
    learner = build_learner(**METHODS["feature_reuse"])
    assert isinstance(learner, FeedbackLearner)
    assert [layer.units for layer in learner.network.trunk] == [5, 6]
    before, after = one_step(learner, random_episode(dtype="float32"))
    assert [fast.shape for fast in before] == [(2, 6, 2)]
    assert np.all(before[0] != after[0])


@pytest.mark.parametrize("clamp_output", [False, True])
@pytest.mark.parametrize(
    ("name", "num_plastic_layers"),
    # Feature reuse has no plastic layer below the output.
    [(name, number) for name in METHODS for number in (1, 2, 3) if number == 1 or name != "feature_reuse"],
)
def test_groups_cover_each_weight_once(name, num_plastic_layers, clamp_output):
    """The groups hold every trainable weight of the network once, and nothing else; none is empty."""
    flags = {**METHODS[name], "num_plastic_layers": num_plastic_layers, "clamp_output": clamp_output}
    learner = build_learner(**flags)
    groups = learner.groups()
    assert list(groups) == [name for name in GROUPS if name in groups] and all(groups.values())
    paths = [path for weights in groups.values() for path in weights]
    assert sorted(paths) == sorted(learner.trainable)
    grouped = [id(weight) for weights in groups.values() for weight in weights.values()]
    assert len(set(grouped)) == len(grouped)
    assert set(grouped) == {id(weight) for weight in learner.network.trainable_weights}
    assert len(groups["slow"]) == 6
    local = name in ("flp", "feature_reuse", "dfa", "recurrent")
    pathways = num_plastic_layers - clamp_output if local else 0
    assert len(groups.get("strength", {})) == pathways
    assert len(groups.get("feedback", {})) == (pathways if name == "dfa" else 2 * pathways)
    parts = 2 if name == "gradient_plastic_biases" else 1  # Of a layer, each with a plasticity of its own.
    assert len(groups.get("plasticity", {})) == (0 if name == "oml" else parts * num_plastic_layers)


@pytest.mark.parametrize("name", METHODS)
def test_every_meta_parameter_matters(name, float64):
    """Every weight of every group has a meta-gradient that is not zero."""
    learner = build_learner(**METHODS[name])
    gradients = meta_gradient(learner, REGRESSION, random_episode()).gradients
    for path, gradient in zip(learner.trainable, in_order(learner, gradients), strict=True):
        assert np.any(gradient), path


@pytest.mark.parametrize("name", METHODS)
def test_initial_weights_follow_from_the_seed(name):
    """The same `--seed` gives the same weights to the last bit, another one others."""
    weights = [to_numpy(newborn_learner(seed=seed, **METHODS[name]).variables) for seed in (7, 7, 8)]
    assert_close(weights[0], weights[1], tolerance=0)
    drawn = [path for path, weight in weights[0].items() if weight.ndim == 2 and weight.std()]
    assert len(drawn) >= 3 and all(np.any(weights[0][path] != weights[2][path]) for path in drawn)


def test_published_initial_weights():
    """He-normal `W` and `B`, zero biases, `alpha` 0 and `beta` 0.5 (paper, appendix B)."""
    learner = newborn_learner(network="200-300", num_plastic_layers=3, feedback_units=(100,))
    for layer in weights_by_layer(learner):
        for kernel in (layer["W"], *layer["B"]):
            assert np.mean(kernel) == pytest.approx(0, abs=0.2 / np.sqrt(kernel.shape[0]))
            assert np.std(kernel) == pytest.approx(np.sqrt(2 / kernel.shape[0]), rel=0.2)
        assert not np.any(layer["b"]) and not np.any(layer["a"]) and layer["beta"].numpy() == 0.5
        assert not any(np.any(bias) for bias in layer["c"])


@pytest.mark.parametrize(("argument", "value"), [("signal", "errror"), ("presynaptic", "pre")])
def test_unknown_settings(argument, value):
    network = build_learner().network
    flag = {"signal": "feedback_signal"}.get(argument, argument)
    with pytest.raises(ValueError, match=f"--{flag}={value} is unknown; legal values: "):
        FeedbackLearner(network, **{argument: value})


def test_losses():
    """Losses and errors over leading axes against NumPy."""
    rng = np.random.default_rng(0)
    outputs, y = rng.normal(size=(2, 5, 3)), np.eye(3)[rng.integers(3, size=(2, 5))]
    for i in range(2):
        assert_close(losses.mean_squared_error(outputs, y)[i], numpy_reference.mean_squared_error(outputs[i], y[i]))
        assert_close(losses.cross_entropy(outputs, y)[i], numpy_reference.cross_entropy(outputs[i], y[i]))
        wrong = np.mean(np.argmax(outputs[i], -1) != np.argmax(y[i], -1))
        assert_close(losses.error_percent(tf.constant(outputs), tf.constant(y))[i], 100 * wrong)
