"""Plastic feedback, and feedback from the layers above, against loops in NumPy."""

import copy

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from helpers import (
    CLASSIFICATION,
    REGRESSION,
    assert_close,
    build_learner,
    in_order,
    kernels_of,
    meta_gradient,
    newborn_learner,
    random_episode,
    to_numpy,
)

import flp_tf
from flp_tf import lifetime
from flp_tf.component import named_variables

STEPS = 3
relu = numpy_reference.relu
UPDATE = numpy_reference.local_update
# Of flags, and how many plastic layers.
PLASTIC = {
    "oja": ({"feedback": "plastic", "feedback_plasticity_scale": 0.1}, 2),
    "hebb": ({"feedback": "plastic", "feedback_rule": "hebb", "feedback_plasticity_scale": 0.1}, 3),
    "hidden layer": ({"feedback": "plastic", "feedback_units": (6,), "feedback_plasticity_scale": 0.1}, 2),
    "output alone": ({"feedback": "plastic", "feedback_plasticity_scale": 0.1, "hidden_feedback": False}, 3),
}
CASCADES = {
    "direct": ({"feedback": "cascade"}, 3),
    "indirect": ({"feedback": "cascade", "feedback_direct": False}, 3),
    "clamped": ({"feedback": "cascade", "clamp_output": True, "feedback_signal": "target"}, 3),
    "indirect clamped": ({"feedback": "cascade", "feedback_direct": False, "clamp_output": True}, 2),
    "output of a cascade": ({"feedback": "cascade", "feedback_direct": False, "hidden_feedback": False}, 3),
}
CASES = PLASTIC | CASCADES


def reference(layers, xs, ys, flags):
    """Returns fast kernels and fast feedback kernels after a lifetime, for weights as of `weights_of`."""
    fast, first = [layer["kernel"] for layer in layers], next(i for i, one in enumerate(layers) if "plasticity" in one)
    last = len(layers) - 1
    back = {i: one["feedback/kernels"][-1] for i, one in enumerate(layers) if one.get("feedback/kernels")}
    for x, y in zip(xs, ys):
        h = numpy_reference.forward([{"b": layer["bias"]} for layer in layers], fast, x)
        f = y if flags.get("feedback_signal") == "target" else y - h[-1]
        post, heard = {}, {}
        for i in range(last, first - 1, -1):
            layer = layers[i]
            if "feedback/strength" not in layer:
                post[i] = y if i == last else h[i + 1]
                continue
            heard[i], drive = f, layer["feedback/biases"][-1]
            for kernel, bias in zip(layer["feedback/kernels"][:-1], layer["feedback/biases"]):
                heard[i] = relu(heard[i] @ kernel + bias)
            if i in back:
                drive = drive + heard[i] @ back[i]
            for name, kernel in layer.get("feedback/from_above", {}).items():
                drive = drive + post[int(name[-1])] @ kernel
            beta = layer["feedback/strength"]
            post[i] = (1 - beta) * h[i + 1] + beta * relu(drive)
        for i in range(first, last + 1):
            fast[i] = fast[i] + 0.1 * layers[i]["plasticity"] * UPDATE("oja", fast[i], h[i], post[i])
            if flags["feedback"] == "plastic" and i in back:
                rate = 0.1 * layers[i]["feedback/plasticity"]
                back[i] = back[i] + rate * UPDATE(flags.get("feedback_rule", "oja"), back[i], heard[i], post[i])
    return fast[first:], list(back.values())


def weights_of(learner):
    """Returns the weights of all layers by path within the layer, lists and dictionaries as such."""
    found = []
    for layer in learner.network.layers.values():
        weights = {path: variable for path, variable in named_variables(layer).items() if path.count("/") < 2}
        if pathway := getattr(layer, "feedback", None):
            weights |= {f"feedback/{name}": list(getattr(pathway, name)) for name in ("kernels", "biases")}
            weights |= {"feedback/from_above": dict(getattr(pathway, "from_above", {}))}
        found.append(weights)
    return found


def case(name):
    flags, depth = CASES[name]
    task = CLASSIFICATION if flags.get("clamp_output") else REGRESSION
    learner = build_learner(task, num_plastic_layers=depth, **flags)
    return learner, task, random_episode(task, steps=STEPS), flags


@pytest.mark.parametrize("name", CASES)
def test_lifetimes(name, float64):
    learner, _, episode, flags = case(name)
    start, state = learner.initial_state(episode.seed), lifetime.run(learner, episode, segment_length=2).state
    for i in range(2):
        weights = to_numpy(weights_of(learner))
        kernels, back = reference(weights, *(part[:, i] for part in to_numpy(episode)[:2]), flags)
        assert_close([kernel[i] for kernel in kernels_of(learner, state)], kernels)
        if name in PLASTIC:
            layers = [layer for layer in learner.network.head if "feedback" in state[layer.name]]
            assert_close([state[layer.name]["feedback"]["kernel"][i] for layer in layers], back)
            for layer, fast in zip(layers, back):
                assert np.max(np.abs(fast - start[layer.name]["feedback"]["kernel"][i])) > 1e-3


@pytest.mark.parametrize("name", ["oja", "hidden layer", "output alone", "direct", "indirect clamped"])
def test_meta_gradients(name, float64):
    """Of one entry of every weight, against complex steps through the reference."""
    learner, task, episode, flags = case(name)
    episode = episode.lifetime(0)
    variables = weights_of(learner)
    weights = to_numpy(variables)
    xs, ys, query_x, query_y = (part[:, 0] if i < 2 else part[0] for i, part in enumerate(to_numpy(episode)[:4]))
    of_task = numpy_reference.mean_squared_error if task is REGRESSION else numpy_reference.cross_entropy

    def loss(weights):
        fast, _ = reference(weights, xs, ys, flags)
        kernels = [layer["kernel"] for layer in weights[: -len(fast)]] + fast
        return of_task(numpy_reference.forward([{"b": one["bias"]} for one in weights], kernels, query_x)[-1], query_y)

    found = meta_gradient(learner, task, episode, 2)
    assert_close(found.loss, loss(weights))
    gradients = {id(w): g for w, g in zip(learner.trainable.values(), in_order(learner, found.gradients), strict=True)}
    flat = tf.nest.flatten(variables)
    assert {id(variable) for variable in flat} == gradients.keys()
    for leaf, variable in enumerate(flat):
        gradient = gradients[id(variable)].numpy()
        assert np.any(gradient), variable.path
        index = np.unravel_index(np.argmax(np.abs(gradient)), gradient.shape)
        assert_close(gradient[index], numpy_reference.derivative(loss, weights, leaf, index))


def test_feedback_that_does_not_move_is_direct(float64):
    """With the plasticity that it starts with, plastic feedback is direct; so is a cascade of one layer."""
    episode = random_episode(steps=STEPS)
    flags = {"plasticity_init": 0.5, "output_plasticity_init": 0.5}
    for name, depth in (("plastic", 2), ("cascade", 1)):
        learners = [newborn_learner(feedback=one, num_plastic_layers=depth, **flags) for one in (name, "direct")]
        for path, weight in learners[1].variables.items():
            learners[0].variables[path].assign(weight)
        states = [kernels_of(one, lifetime.run(one, episode).state) for one in learners]
        assert_close(*states)


def test_random_feedback_that_is_plastic():
    """DFA fixes the slow feedback kernels, not how they learn."""
    learner = build_learner(method="dfa", feedback="plastic")
    path = "network/layers/layer_1/feedback"
    assert f"{path}/kernels/0" not in learner.trainable
    assert {f"{path}/plasticity", f"{path}/biases/0"} <= set(learner.trainable)
    assert f"{path}/plasticity" in learner.groups()["plasticity"]


def test_own_rule_of_a_feedback_kernel_is_meta_learned(eager, tmp_path):
    """At the rates of the feedback, whatever rule the layer has."""
    own = {"feedback": "plastic", "feedback_rule": "polynomial", "feedback_plasticity_init": 1.0, "episodes": 2}
    sizes = {"num_sines": 2, "lifetime": 4, "batch_size": 4, "query_size": 6, "network": "4", "eval_episodes": 2}
    config = flp_tf.configure(task="sine", output_plasticity_init=1.0, **sizes, **own)
    run = flp_tf.meta_train(config, tmp_path / "run", progress=False)
    theta = run.learner.groups()["feedback"]["network/layers/layer_1/feedback/kernel_rule/theta/110"]
    assert theta.numpy() != 1.0 and np.isfinite(theta.numpy())


@pytest.mark.parametrize("feedback", ["plastic", "cascade"])
def test_maps_and_copies(feedback):
    """A plastic convolution gets the same feedback as a dense layer of as many units; copies have the same weights."""
    learner = build_learner(CLASSIFICATION._replace(input_shape=(4, 4, 1)), feedback=feedback, network="c2")
    twin = copy.deepcopy(learner.network)
    assert_close(to_numpy(named_variables(twin)), to_numpy(named_variables(learner.network)), tolerance=0)
    layer, rng = twin.head[0], np.random.default_rng(0)
    h, f, above = (rng.normal(size=shape).astype("float32") for shape in ((5, 2, 2, 2), (5, 3), (5, 3)))
    state = layer.get_initial_state()
    drive = f @ layer.feedback.kernels[0].numpy() + layer.feedback.biases[0].numpy()
    for kernel in getattr(layer.feedback, "from_above", {}).values():
        drive += above @ kernel.numpy()
    z = relu(drive).reshape(h.shape)
    beta = layer.feedback.strength.numpy()
    post = layer.mix_feedback(h, f, {"layer_1": above}, state)
    assert_close(post, (1 - beta) * h + beta * z, tolerance=1e-5)
    if feedback == "plastic":
        found = layer.update(state, rng.normal(size=(5, 4, 4, 1)), post, f)["feedback"]["kernel"]
        kernel = layer.feedback.kernels[0].numpy()
        rate = layer.feedback.plasticity_scale * layer.feedback.plasticity.numpy()
        assert_close(found, kernel + rate * UPDATE("oja", kernel, f, post.numpy().reshape(5, -1)), tolerance=1e-5)


@pytest.mark.parametrize("feedback", ["direct", "plastic", "cascade"])
def test_initial_biases(feedback):
    learner = newborn_learner(num_plastic_layers=2, feedback=feedback, feedback_bias=0.3, feedback_units=(6,))
    biases = {path: bias.numpy() for path, bias in learner.variables.items() if "feedback/biases" in path}
    assert len(biases) == 4
    for bias in biases.values():
        np.testing.assert_array_equal(bias, np.float32(0.3))
