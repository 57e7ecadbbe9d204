"""What makes an inner step pure: which operations are refused or allowed, and which states it may return."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_close, build_learner, in_mode, random_episode
from plain_loop import gradients, run_in_engine, run_in_python, subclass

from flp_tf import lifetime
from flp_tf.errors import ContractError
from flp_tf.learners import FeedbackLearner

STEPS = 7


def learner_that(learn):
    """Returns a learner whose inner step is `learn(learner, state, features, y)`."""
    return subclass(build_learner(), type("Custom", (FeedbackLearner,), {"learn": learn}))


STATEFUL = {
    "NumPy in every step": lambda features: tf.reshape(
        tf.numpy_function(lambda: np.random.default_rng().normal(size=features.shape), [], features.dtype),
        features.shape,
    ),
    "tf.random": lambda features: tf.random.normal(features.shape, dtype=features.dtype),
    "a generator": lambda features, generator=tf.random.Generator.from_seed(1): generator.normal(
        features.shape, dtype=features.dtype
    ),
    "dropout of Keras": lambda features, dropout=keras.layers.Dropout(0.5, dtype="float64"): dropout(
        features, training=True
    ),
    "NumPy said to be stateless": lambda features: tf.reshape(
        tf.numpy_function(lambda: np.random.default_rng().normal(size=features.shape), [], features.dtype, False),
        features.shape,
    ),
    "fractional pooling": lambda features: tf.reduce_sum(
        tf.nn.fractional_max_pool(tf.reshape(features, [1, -1, features.shape[-1], 1]), 1.5)[0]
    ),
    "the clock": lambda features: tf.cast(tf.timestamp(), features.dtype),
    "a variable that counts steps": lambda features, count=tf.Variable(0.0, dtype=tf.float64): count.assign_add(1.0),
}


@pytest.mark.parametrize("kind", STATEFUL)
def test_stateful_randomness_is_refused(kind, float64):
    """A hidden random state would be drawn again in the reverse pass."""
    learner = learner_that(
        lambda self, state, features, y: FeedbackLearner.learn(self, state, features + STATEFUL[kind](features), y)
    )
    with pytest.raises(ValueError, match=r"^learn is no pure function: it runs .*stateless.*initial_state"):
        lifetime.run(learner, random_episode(), segment_length=3)


def printed(features):
    tf.print("mean activity", tf.reduce_mean(features))
    return 0.0


def asserted(features):
    tf.debugging.assert_all_finite(features, "features")
    tf.debugging.assert_greater(features + 1e9, tf.zeros_like(features))
    return 0.0


TABLE = tf.lookup.KeyValueTensorInitializer([0, 1], [0.0, 1.0], tf.int64, tf.float64)
HARMLESS = {
    "tf.print": printed,
    "assertions": asserted,
    "a look-up in a table": lambda features, table=tf.lookup.StaticHashTable(TABLE, 7.0): table.lookup(
        tf.zeros([], tf.int64)
    ),
    "a variable that is read": lambda features, variable=tf.Variable(0.0, dtype=tf.float64): variable.read_value(),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_gives_the_same_twice_is_allowed(kind, float64, capfd):
    """Whether or not TensorFlow calls it stateful. It runs, and the step is what it is without."""
    learner = learner_that(
        lambda self, state, features, y: FeedbackLearner.learn(self, state, features + HARMLESS[kind](features), y)
    )
    episode = random_episode()
    found = lifetime.run(learner, episode, segment_length=3).state
    assert_close(found, lifetime.run(build_learner(), episode, segment_length=3).state)
    assert capfd.readouterr().err.count("mean activity") == (len(episode.support_x) if kind == "tf.print" else 0)


def test_what_python_draws_is_the_same_in_both_passes(float64):
    """NumPy's random numbers are drawn once, when the step is traced: loss and gradient belong together."""

    def learn(self, state, features, y):
        draws.append(np.random.default_rng(len(draws)).normal(size=y.shape))
        return FeedbackLearner.learn(self, state, features, y + draws[-1])

    draws = []
    episode = random_episode(steps=STEPS)
    learner = learner_that(learn)
    loss, (by_weights, _), _ = gradients(run_in_engine(3), learner, episode)
    same = learner_that(lambda self, state, features, y: FeedbackLearner.learn(self, state, features, y + draws[0]))
    expected, (of_python, _), _ = gradients(run_in_python, same, episode)
    assert len(draws) == 1
    assert_close((loss, by_weights), (expected, of_python))


BAD_STATES = {
    "another shape": lambda state: tf.nest.map_structure(lambda kernel: kernel[:, :1], state),
    "another type": lambda state: tf.nest.map_structure(lambda kernel: tf.cast(kernel, tf.float32), state),
    "a part less": lambda state: dict(list(state.items())[:1]),
}


@pytest.mark.parametrize("kind", BAD_STATES)
def test_states_of_another_form(kind, float64):
    learner = learner_that(
        lambda self, state, features, y: BAD_STATES[kind](FeedbackLearner.learn(self, state, features, y))
    )
    with pytest.raises((TypeError, ValueError), match="learn was given a state|structure"):
        lifetime.run(learner, random_episode(), segment_length=3)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_a_tensor_that_was_computed_outside_is_refused(mode, float64):
    """Its gradient would be lost. A constant has none, and is allowed."""
    scale = tf.Variable(0.5, dtype=tf.float64)

    used, episode = [], random_episode(steps=3)
    learner = learner_that(lambda self, state, x, y: FeedbackLearner.learn(self, state, x * used[-1], y))

    def slope(tensor_of):
        with tf.GradientTape() as tape:
            used.append(tensor_of())
            state = lifetime.run(learner, episode, segment_length=3).state
            total = tf.add_n([tf.reduce_sum(part) for part in tf.nest.flatten(state)])
        return tape.gradient(total, scale)

    def run(tensor_of):
        return in_mode(lambda: slope(tensor_of), mode)()

    with pytest.raises(ContractError, match="^learn uses a tensor that was computed outside of it"):
        run(lambda: tf.exp(scale))
    fixed = tf.constant(0.5, tf.float64)
    assert run(lambda: fixed) is None and run(lambda: tf.constant(0.5, tf.float64)) is None


def test_a_part_of_a_state_that_is_no_tensor_is_named(float64):
    learner = learner_that(lambda self, state, features, y: state)
    with pytest.raises(ContractError, match="the state of a lifetime has None in it, which is no tensor"):
        lifetime.run(learner, random_episode(), state={"layer": {"kernel": None}})
