"""Parts as a user writes them: weights in learners and rules, pathways with a state or input from layers above."""

import itertools

import keras
import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from helpers import (
    REGRESSION,
    assert_close,
    build_learner,
    in_order,
    kernels_of,
    meta_gradient,
    newborn_learner,
    random_episode,
    to_numpy,
    weights_by_layer,
)

from flp_tf import lifetime
from flp_tf.feedback import FEEDBACK, Pathway
from flp_tf.initial import INITIALS, Initial
from flp_tf.learners import FeedbackLearner
from flp_tf.plasticity import RULES, Rule

pytestmark = pytest.mark.slow

STEPS = 4


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """Forgets what a test registers."""
    for registry in (RULES, FEEDBACK, INITIALS):
        monkeypatch.setattr(registry, "_components", dict(registry._components))


def loss_of(learner, episode):
    """Returns the query loss after a lifetime."""
    state = lifetime.run(learner, episode).state
    loss = REGRESSION.loss(lifetime.query(learner, state, episode), episode.query_y)
    return tf.reduce_mean(loss) + learner.penalty()


def assert_finite_differences(learner, episode, paths, segment_length=3):
    """Compares meta-gradients of all entries of some weights with central differences of the loss."""
    gradients = dict(
        zip(learner.trainable, in_order(learner, meta_gradient(learner, REGRESSION, episode, segment_length).gradients))
    )
    # Hundreds of losses: a graph takes a hundredth of the time.
    loss = tf.function(lambda: loss_of(learner, episode), autograph=False)
    for path in paths:
        weight = learner.trainable[path]
        value = np.array(weight.numpy())
        assert np.any(gradients[path])
        for index in itertools.product(*map(range, value.shape)):
            losses = []
            for sign in (1, -1):
                moved = value.copy()
                moved[index] += sign * 1e-5
                weight.assign(moved)
                losses.append(loss().numpy())
            weight.assign(value)
            assert_close(gradients[path].numpy()[index], (losses[0] - losses[1]) / 2e-5, 1e-7)


class Decaying(FeedbackLearner):
    """FLP whose fast weights are drawn back to the slow ones, by a rate of the learner's own."""

    def __init__(self, network, signal="error", clamp_output=False, presynaptic="pre_feedback"):
        super().__init__(network, signal, clamp_output, presynaptic)
        self.rate = keras.Variable(0.1, dtype=network.dtype, name="whatever")
        self.constant = keras.Variable(2.0, dtype=network.dtype, trainable=False)

    def learn(self, state, features, y):
        new_state, first = super().learn(state, features, y), self.network.initial_state()
        for layer in self.network.head:
            kernel = new_state[layer.name]["kernel"]
            new_state[layer.name]["kernel"] = kernel + self.rate * (first[layer.name]["kernel"] - kernel)
        return new_state


def test_weight_of_a_learner(float64):
    """It is under its attribute's name in all lists, and has the right meta-gradient."""
    learner = Decaying(build_learner().network)
    assert {"rate", "constant"} <= set(learner.variables)
    assert "rate" in learner.trainable and "constant" not in learner.trainable
    assert learner.groups()["slow"]["rate"] is learner.rate
    assert_finite_differences(learner, random_episode(steps=STEPS), ["rate"])


class Polynomial(Rule):
    """`theta_0 pre^T post + theta_1 W sum post^2`, with one `theta` per neuron."""

    def build(self, kernel_shape):
        self.theta = self.add_weight(name="theta", shape=(2, kernel_shape[-1]), initializer="ones")
        self.built = True

    def call(self, kernel, pre, post):
        hebbian = tf.matmul(pre, post, transpose_a=True)
        return self.theta[0] * hebbian - self.theta[1] * kernel * tf.reduce_sum(post**2, -2, keepdims=True)


def test_weight_of_a_rule(float64):
    """It is in the group "rule", per layer, with the meta-gradient of finite differences."""
    RULES.register("own_polynomial")(Polynomial)
    learner = build_learner(rule="own_polynomial")
    paths = [f"network/layers/{layer.name}/rule/theta" for layer in learner.network.head]
    assert list(learner.groups()["rule"]) == paths
    assert_finite_differences(learner, random_episode(steps=STEPS), paths)
    newborn, oja = newborn_learner(rule="own_polynomial"), newborn_learner(rule="oja")
    episode = random_episode(steps=STEPS)
    for one in (newborn, oja):
        for layer in one.network.head:
            layer.plasticity.assign(tf.ones(layer.plasticity.shape))
    states = [kernels_of(one, lifetime.run(one, episode).state) for one in (newborn, oja)]
    assert_close(*states)


class Spread(Initial):
    """Normal initial kernels of a meta-learned spread per neuron, with a penalty."""

    def build(self, kernel_shape):
        self.log_sigma = self.add_weight(name="log_sigma", shape=kernel_shape[-1:], initializer="zeros")
        self.built = True

    def call(self, kernel, seeds=None):
        if seeds is None:
            return kernel
        noise = tf.map_fn(
            lambda seed: tf.random.stateless_normal(kernel.shape, seed, dtype=kernel.dtype), seeds, kernel.dtype
        )
        return kernel + 0.1 * tf.exp(self.log_sigma) * noise

    def penalty(self, kernel):
        return 0.01 * tf.reduce_sum(self.log_sigma**2) + 0.02 * tf.reduce_sum(kernel**2)


def test_initial_distribution_with_weights_and_a_price(float64):
    """Drawn from the episode's seeds alone; in the group "initial"; the penalty is part of the loss."""
    INITIALS.register("spread")(Spread)
    learner = build_learner(initial="spread")
    paths = [f"network/layers/{layer.name}/initial/log_sigma" for layer in learner.network.head]
    assert list(learner.groups()["initial"]) == paths
    episode = random_episode(steps=STEPS)
    assert_finite_differences(learner, episode, [*paths, "network/layers/layer_2/kernel"])
    kernels = [
        kernels_of(learner, learner.initial_state(seeds)) for seeds in (episode.seed, episode.seed, episode.seed + 1)
    ]
    assert_close(kernels[0], kernels[1], tolerance=0)
    assert np.all(kernels[0][0][0] != kernels[0][0][1]) and np.all(kernels[0][0] != kernels[2][0])


class PlasticFeedback(Pathway):
    """`z = act(f B)` with a fast `B`, which follows Oja's rule: presynaptic the signal, postsynaptic `p`."""

    def build_pathway(self, activity_shape):
        shape = (self.signal_size, *activity_shape)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="he_normal")
        self.plasticity = self.add_weight(name="rate", shape=shape, initializer="zeros")

    def initial_state(self, seeds=None):
        kernel = tf.convert_to_tensor(self.kernel.value)
        return {"kernel": kernel if seeds is None else tf.repeat(kernel[None], tf.shape(seeds)[0], 0)}

    def pathway(self, signal, above, state):
        return tf.nn.relu(tf.matmul(signal, state["kernel"]))

    def update(self, state, signal, post):
        decay = state["kernel"] * tf.reduce_sum(post**2, -2, keepdims=True)
        return {"kernel": state["kernel"] + 0.1 * self.plasticity * (tf.matmul(signal, post, transpose_a=True) - decay)}


def test_pathway_with_a_state(float64):
    """Fast feedback kernels against a loop in NumPy, and their meta-gradients against finite differences."""
    FEEDBACK.register("fast")(PlasticFeedback)
    learner = build_learner(feedback="fast")
    episode = random_episode(steps=STEPS)
    state = lifetime.run(learner, episode, segment_length=3).state
    head = learner.network.head
    assert [list(state[layer.name]) for layer in head] == [["kernel", "feedback"]] * 2
    for i in range(2):
        fast = [layer.kernel.numpy() for layer in (*learner.network.trunk, *head)]
        back = [layer.feedback.kernel.numpy() for layer in head]
        biases = [{"b": layer.bias.numpy()} for layer in (*learner.network.trunk, *head)]
        for x, y in zip(episode.support_x.numpy()[:, i], episode.support_y.numpy()[:, i]):
            h = numpy_reference.forward(biases, fast, x)
            f = y - h[-1]
            for k, layer in enumerate(head):
                beta = layer.feedback.strength.numpy()
                post = (1 - beta) * h[k + 2] + beta * np.maximum(f @ back[k], 0)
                alpha = 0.1 * layer.plasticity.numpy()
                fast[k + 1] = fast[k + 1] + alpha * numpy_reference.local_update("oja", fast[k + 1], h[k + 1], post)
                rate = 0.1 * layer.feedback.plasticity.numpy()
                back[k] = back[k] + rate * numpy_reference.local_update("oja", back[k], f, post)
        for k, layer in enumerate(head):
            assert_close(state[layer.name]["kernel"][i], fast[k + 1])
            assert_close(state[layer.name]["feedback"]["kernel"][i], back[k])
            assert np.max(np.abs(back[k] - layer.feedback.kernel.numpy())) > 1e-3
    paths = [path for path in learner.trainable if "/feedback/" in path]
    assert len(paths) == 6
    assert_finite_differences(learner, episode, paths)


class FromAbove(Pathway):
    """`z = act(f B + sum over the layers m above of p_m C_m)` (paper, section 8.1)."""

    def build_pathway(self, activity_shape):
        def kernel(name, size):
            return self.add_weight(name=name, shape=(size, *activity_shape), initializer="he_normal")

        self.direct = kernel("direct", self.signal_size)
        self.lateral = {name: kernel(f"from_{name}", size) for name, (size,) in self.above_shapes.items()}

    def pathway(self, signal, above, state):
        z = tf.tensordot(signal, self.direct.value, 1)
        return tf.nn.relu(z + sum(tf.tensordot(above[name], c.value, 1) for name, c in self.lateral.items()))


def test_pathway_from_the_layers_above(float64):
    """Every layer gets the post-feedback activities of all layers above it: against a loop in NumPy."""
    FEEDBACK.register("above")(FromAbove)
    learner = build_learner(feedback="above", num_plastic_layers=3)
    head = learner.network.head
    heard = [list(layer.feedback.lateral) for layer in head]
    assert heard == [["layer_1", "layer_2"], ["layer_2"], []]
    assert len(learner.groups()["feedback"]) == 3 + 3
    assert "network/layers/layer_0/feedback/lateral/layer_2" in learner.trainable
    episode = random_episode(steps=STEPS)
    state = kernels_of(learner, lifetime.run(learner, episode, segment_length=3).state)
    weights = to_numpy([{"W": layer.kernel, "b": layer.bias, "a": layer.plasticity} for layer in head])
    for i in range(2):
        fast = [layer["W"] for layer in weights]
        for x, y in zip(episode.support_x.numpy()[:, i], episode.support_y.numpy()[:, i]):
            h = numpy_reference.forward(weights, fast, x)
            post = {}
            for k in (2, 1, 0):
                pathway = head[k].feedback
                z = (y - h[-1]) @ pathway.direct.numpy()
                for m in range(k + 1, 3):
                    z = z + post[m] @ pathway.lateral[f"layer_{m}"].numpy()
                beta = pathway.strength.numpy()
                post[k] = (1 - beta) * h[k + 1] + beta * np.maximum(z, 0)
            for k in range(3):
                update = numpy_reference.local_update("oja", fast[k], h[k], post[k])
                fast[k] = fast[k] + 0.1 * weights[k]["a"] * update
        assert_close([kernel[i] for kernel in state], fast)
    assert_finite_differences(learner, episode, [path for path in learner.trainable if "/lateral/" in path])


@pytest.mark.parametrize("name", ["layer_0", "layer_1", "layer_2"])
def test_any_layer_can_be_frozen(name):
    """`layer.trainable = False` excludes all weights of a layer, of trunk and head; True has them back."""
    learner = build_learner()
    every = set(learner.trainable)
    own = {path for path in every if path.startswith(f"network/layers/{name}/")}
    assert len(own) == (2 if name == "layer_0" else 6)
    layer = learner.network.layers[name]
    layer.trainable = False
    assert set(learner.trainable) == every - own
    assert set(learner.variables) == every
    assert {path for weights in learner.groups().values() for path in weights} == every - own
    episode = random_episode(dtype="float32")
    gradients = meta_gradient(learner, REGRESSION, episode).gradients
    assert {path for weights in gradients.values() for path in weights} == every - own
    layer.trainable = True
    assert set(learner.trainable) == every


def test_any_weight_can_be_frozen():
    learner = build_learner()
    layer = learner.network.head[0]
    layer.feedback.strength.trainable = False
    layer.feedback.kernels[0].trainable = False
    frozen = {f"network/layers/{layer.name}/feedback/{part}" for part in ("strength", "kernels/0")}
    assert set(learner.variables) - set(learner.trainable) == frozen


def test_frozen_layers_still_learn_in_a_lifetime():
    """To be meta-learned and to be plastic are two things."""
    learner = build_learner()
    learner.network.head[0].trainable = False
    episode = random_episode(dtype="float32")
    state = lifetime.run(learner, episode).state
    slow = weights_by_layer(learner)[1]["W"]
    assert np.all(state["layer_1"]["kernel"][0] != slow.numpy())
