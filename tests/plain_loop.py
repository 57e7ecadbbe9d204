"""The loop of inner steps written out in Python, and what a tape says of it and of the engine."""

import tensorflow as tf
from helpers import REGRESSION

from flp_tf import lifetime


def subclass(learner, cls, **attributes):
    """Returns a learner of class `cls` with the network of another."""
    made = cls(learner.network, learner.signal, learner.clamp_output)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def run_in_python(learner, episode):
    state = learner.initial_state(episode.seed)
    for x, y in zip(tf.unstack(episode.support_x), tf.unstack(episode.support_y)):
        state = learner.learn(state, learner.encode(x), y)
    return state


def run_in_engine(segment_length):
    return lambda learner, episode: lifetime.run(learner, episode, segment_length=segment_length).state


def gradients(run, learner, episode):
    """Returns the query loss, and its gradients by every weight, the support data and the last state."""
    weights = {path: weight.value for path, weight in learner.trainable.items()}
    data = (episode.support_x, episode.support_y)
    with tf.GradientTape() as tape:
        tape.watch(data)
        state = run(learner, episode)
        outputs = learner.predict(state, learner.encode(episode.query_x))
        loss = tf.reduce_mean(REGRESSION.loss(outputs, episode.query_y))
    return loss, tape.gradient(loss, (weights, data), unconnected_gradients=tf.UnconnectedGradients.ZERO), state
