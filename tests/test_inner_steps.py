"""The engine's promise: any pure inner step over any state, against the plain loop in Python."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import REGRESSION, assert_close, build_learner, in_mode, random_episode
from plain_loop import gradients, run_in_engine, run_in_python, subclass

from flp_tf import lifetime
from flp_tf.learners import FeedbackLearner

STEPS = 7
# Several segments with a shorter last one, and one.
SEVERAL, WHOLE = 3, STEPS


class Decaying(FeedbackLearner):
    """Decay and clipping: a step that its direction does not undo. Overrides `learn` alone."""

    def learn(self, state, features, y):
        new_state = super().learn(state, features, y)
        return tf.nest.map_structure(lambda kernel: tf.clip_by_value(0.9 * kernel, -0.8, 0.8), new_state)


class Momentum(FeedbackLearner):
    """Momentum with a weight of the learner's own, in a nested state beside the kernels."""

    def initial_state(self, seeds=None):
        kernels = super().initial_state(seeds)
        return {"kernels": kernels, "moved": (tf.nest.map_structure(tf.zeros_like, kernels),)}

    def learn(self, state, features, y):
        kernels, (moved,) = state["kernels"], state["moved"]
        stepped = super().learn(kernels, features, y)
        moved = tf.nest.map_structure(lambda m, old, new: self.momentum.value * m + new - old, moved, kernels, stepped)
        return {"kernels": tf.nest.map_structure(tf.add, kernels, moved), "moved": (moved,)}

    def predict(self, state, features):
        return super().predict(state["kernels"], features)


class EligibilityTrace(FeedbackLearner):
    """A decaying trace of presynaptic activity, and an integer that counts steps."""

    def initial_state(self, seeds=None):
        kernels = super().initial_state(seeds)
        lifetimes = [] if seeds is None else [seeds.shape[0]]
        width = self.network.feature_shape[0]
        trace = tf.zeros([*lifetimes, 1, width], self.network.compute_dtype)
        return {"kernels": kernels, "trace": trace, "steps": tf.zeros(lifetimes, tf.int32)}

    def learn(self, state, features, y):
        trace = 0.7 * state["trace"] + tf.reduce_mean(features, -2, keepdims=True)
        early = tf.cast(state["steps"] < 4, features.dtype)[:, None, None]
        kernels = super().learn(state["kernels"], features + early * trace, y)
        return {"kernels": kernels, "trace": trace, "steps": state["steps"] + 1}

    def predict(self, state, features):
        return super().predict(state["kernels"], features)


class Noisy(FeedbackLearner):
    """Draws noise from a seed that is part of the state: integers, because XLA draws other normal numbers."""

    def initial_state(self, seeds=None):
        return {"kernels": super().initial_state(seeds), "seeds": seeds}

    def learn(self, state, features, y):
        def draw(seed):
            drawn = {"minval": None, "maxval": None, "dtype": tf.int32, "alg": "philox"}
            return tf.random.stateless_uniform(y.shape[1:], seed, **drawn)

        noise = tf.map_fn(draw, state["seeds"], fn_output_signature=tf.TensorSpec(y.shape[1:], tf.int32))
        kernels = super().learn(state["kernels"], features, y + 0.1 * tf.cast(noise, y.dtype) / 2**31)
        return {"kernels": kernels, "seeds": state["seeds"] + 1}

    def predict(self, state, features):
        return super().predict(state["kernels"], features)


class PlasticFeedback(FeedbackLearner):
    """The feedback kernels of hidden layers follow a local rule, too: the state of a layer has two matrices."""

    def initial_state(self, seeds=None):
        state = super().initial_state(seeds)
        for layer in self.network.head[:-1]:
            kernel = tf.convert_to_tensor(layer.feedback.kernels[0].value)
            state[layer.name]["back"] = tf.repeat(kernel[None], seeds.shape[0], 0)
        return state

    def learn(self, state, features, y):
        layers = self.network.head
        h = self.network.activities(state, features)
        error = y - h[-1]
        new_state = {}
        for layer, before, after in zip(layers, h, h[1:]):
            own = dict(state[layer.name])
            post = layer.mix_feedback(after, error)
            if "back" in own:
                post = 0.5 * after + 0.5 * tf.nn.relu(tf.matmul(error, own["back"]))
                own["back"] += 0.1 * tf.matmul(error, post, transpose_a=True)
            own["kernel"] += layer.alpha * layer.direction(own, before, post)
            new_state[layer.name] = own
        return new_state


def momentum():
    return keras.Variable(0.5, dtype="float64", name="momentum")


STEPS_OF = {
    "decay and clipping": lambda: (Decaying, {}),
    "momentum": lambda: (Momentum, {"momentum": momentum()}),
    "eligibility trace and counter": lambda: (EligibilityTrace, {}),
    "noise from the state": lambda: (Noisy, {}),
    "plastic feedback": lambda: (PlasticFeedback, {}),
}


@functools.cache
def plain(name):
    """Returns a learner, an episode and what a Python loop under a tape says of them."""
    cls, attributes = STEPS_OF[name]()
    learner = subclass(build_learner(), cls, **attributes)
    episode = random_episode(steps=STEPS)
    return learner, episode, gradients(run_in_python, learner, episode)


# Every step in several segments and in one, as it is; segments of a step each, and graphs, where they differ.
UNCOMPILED = [(name, length, "eager") for name in STEPS_OF for length in (SEVERAL, WHOLE)]
UNCOMPILED += [("decay and clipping", 1, "eager"), ("plastic feedback", 1, "graph")]
UNCOMPILED += [("noise from the state", SEVERAL, "graph"), ("eligibility trace and counter", WHOLE, "graph")]


@pytest.mark.parametrize(("name", "segment_length", "mode"), UNCOMPILED)
def test_any_inner_step(name, segment_length, mode, float64):
    learner, episode, expected = plain(name)
    found = in_mode(lambda e: gradients(run_in_engine(segment_length), learner, e), mode)(episode)
    assert_close(found, expected)


COMPILED = {
    "decay and clipping": WHOLE,
    "momentum": SEVERAL,
    "eligibility trace and counter": WHOLE,
    "plastic feedback": WHOLE,
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "segment_length"), COMPILED.items())
def test_any_inner_step_compiled(name, segment_length, float64):
    learner, episode, expected = plain(name)
    found = in_mode(lambda e: gradients(run_in_engine(segment_length), learner, e), "xla")(episode)
    assert_close(found, expected)


@pytest.mark.slow
def test_noise_from_the_state_compiled(float64):
    """Two segments of two steps."""
    learner = subclass(build_learner(network="5", num_plastic_layers=1), Noisy)
    episode = random_episode(steps=4)
    found = in_mode(lambda e: gradients(run_in_engine(2), learner, e), "xla")(episode)
    assert_close(found, gradients(run_in_python, learner, episode))


def test_own_weight_is_meta_learned(float64):
    learner, _, (_, (by_weights, _), _) = plain("momentum")
    assert "momentum" in learner.trainable and np.any(by_weights["momentum"])


# One segment takes XLA half of the time that two do.
@pytest.mark.parametrize(("mode", "segment_length"), [("eager", 3), ("graph", 3), ("xla", 6)])
def test_meta_learned_targets(mode, segment_length, float64):
    """One variable feeds the targets of support and query: the sum of both gradients."""
    learner, episode = build_learner(), random_episode(steps=6)
    teacher = tf.Variable(np.random.default_rng(1).normal(size=(4, 2)))

    def gradient(run):
        with tf.GradientTape() as tape:
            taught = episode._replace(
                support_y=tf.tensordot(episode.support_x, teacher, 1), query_y=tf.tensordot(episode.query_x, teacher, 1)
            )
            outputs = learner.predict(run(learner, taught), learner.encode(taught.query_x))
            loss = tf.reduce_mean(REGRESSION.loss(outputs, taught.query_y))
        return tape.gradient(loss, teacher)

    assert_close(in_mode(lambda: gradient(run_in_engine(segment_length)), mode)(), gradient(run_in_python))


def test_integer_targets(float64):
    """Targets without a gradient: labels."""

    class Labelled(FeedbackLearner):
        def learn(self, state, features, y):
            return super().learn(state, features, tf.one_hot(y, 2, dtype=features.dtype))

    learner = subclass(build_learner(), Labelled)
    episode = random_episode(steps=STEPS)
    episode = episode._replace(support_y=tf.constant(np.random.default_rng(0).integers(2, size=(STEPS, 2, 3))))

    def gradient(run):
        with tf.GradientTape() as tape:
            loss = sum(tf.reduce_sum(tf.sin(part)) for part in tf.nest.flatten(run(learner, episode)))
        return tape.gradient(loss, [weight.value for weight in learner.trainable.values()])

    expected = gradient(run_in_python)
    assert any(np.any(part) for part in expected)
    assert_close(gradient(run_in_engine(3)), expected)


def second_derivative(run, learner, episode, persistent):
    """Returns the gradient of the squared norm of the meta-gradient by two weights."""
    weights = [learner.network.layers["layer_1"].plasticity.value, learner.network.layers["layer_0"].kernel.value]
    with tf.GradientTape(persistent=persistent) as outer:
        with tf.GradientTape() as inner:
            state = run(learner, episode)
            outputs = learner.predict(state, learner.encode(episode.query_x))
            loss = tf.reduce_mean(REGRESSION.loss(outputs, episode.query_y))
        norm = sum(tf.reduce_sum(part**2) for part in inner.gradient(loss, weights))
    return outer.gradient(norm, weights)


@pytest.mark.parametrize(
    ("mode", "persistent", "segment_length"),
    [pytest.param("graph", False, 2, marks=pytest.mark.slow), ("eager", True, 3), ("eager", True, 4)],
)
def test_second_derivatives(mode, persistent, segment_length, float64):
    """Derivatives of the meta-gradient, inside `tf.function` and eagerly with a persistent tape."""
    learner, episode = build_learner(network="5", num_plastic_layers=1), random_episode(steps=4)
    expected = second_derivative(run_in_python, learner, episode, False)
    assert all(np.any(part) for part in expected)
    run = run_in_engine(segment_length)
    assert_close(in_mode(lambda: second_derivative(run, learner, episode, persistent), mode)(), expected)


@pytest.mark.parametrize("segment_length", [lifetime.PLAIN, lifetime.AUTO])
def test_numpy_arrays_are_welcome(segment_length):
    learner = build_learner()
    episode = random_episode(dtype="float32")
    arrays = type(episode)(*(np.asarray(part, np.float64 if i < 4 else np.int32) for i, part in enumerate(episode)))
    expected = lifetime.run(learner, episode, segment_length=segment_length).state
    found = lifetime.run(learner, arrays, segment_length=segment_length).state
    assert_close(found, expected, tolerance=1e-6)
    query = lifetime.query(learner, found, arrays)
    assert_close(query, lifetime.query(learner, expected, episode), tolerance=1e-6)
