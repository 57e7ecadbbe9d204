"""The meta-objective: query loss after a lifetime, and its gradient."""

from typing import NamedTuple

import tensorflow as tf

from flp_tf import lifetime
from flp_tf.learners.base import Learner
from flp_tf.tasks.base import Episode, Task


class MetaGradient(NamedTuple):
    """What one outer step needs.

    Attributes:
        loss: query loss, mean over lifetimes.
        error: query error in the task's unit, mean over lifetimes.
        gradients: one tensor a meta-parameter, in the learner's order.
    """

    loss: tf.Tensor
    error: tf.Tensor
    gradients: list[tf.Tensor]


def query(learner: Learner, state, episode: Episode) -> tf.Tensor:
    """Returns the outputs for the query `[lifetimes, examples, outputs]`."""
    return learner.predict(state, learner.encode(episode.query_x))


def meta_gradient(learner: Learner, task: Task, episode: Episode, segment_length: int = lifetime.AUTO) -> MetaGradient:
    """Back-propagates the query loss through a meta-batch of lifetimes.

    Args:
        learner: the learner.
        task: gives loss and error.
        episode: the data, from `task.sample`.
        segment_length: see `lifetime.run`.
    """
    with tf.GradientTape() as tape:
        state = lifetime.run(learner, episode, segment_length=segment_length).state
        outputs = query(learner, state, episode)
        loss = tf.reduce_mean(task.loss(outputs, episode.query_y))
    variables = [weight.value for weight in learner.meta_parameters]
    gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return MetaGradient(loss, tf.reduce_mean(task.error(outputs, episode.query_y)), gradients)
