"""The meta-objective: query loss after a lifetime, and its gradient."""

import copy
import functools
from collections.abc import Callable
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
    found, _ = _with_input_gradients(learner, task, segment_length, episode)
    return found


def compiled_meta_gradient(
    learner: Learner, task: Task, segment_length: int = lifetime.AUTO, jit_compile: bool = True
) -> Callable[[Episode], MetaGradient]:
    """Returns `meta_gradient` of an episode, compiled.

    On a CPU, XLA takes about twice as long for a convolution and its gradients as
    TensorFlow's own kernels. A convolutional trunk that runs over the whole lifetime in
    one go therefore stays outside of XLA, and is differentiated through its features.

    Args:
        learner: the learner.
        task: gives loss and error.
        segment_length: see `lifetime.run`.
        jit_compile: whether XLA compiles the lifetime.
    """
    function = functools.partial(tf.function, autograph=False, jit_compile=jit_compile)
    whole = function(functools.partial(meta_gradient, learner, task, segment_length=segment_length))
    # The same learner, for examples that have been through the trunk already.
    headed = copy.copy(learner)
    headed.encode = tf.identity
    on_features = function(functools.partial(_with_input_gradients, headed, task, segment_length))
    variables = [weight.value for weight in learner.meta_parameters]

    @tf.function(autograph=False)
    def gradient(episode):
        trunk_apart = jit_compile and learner.network.convolutional_trunk and not tf.config.list_physical_devices("GPU")
        if not trunk_apart or not lifetime.hoists_trunk(learner, episode.support_x):
            return whole(episode)
        inputs = (episode.support_x, episode.query_x)
        with tf.GradientTape() as tape:
            features = [learner.encode(x) for x in inputs]
        found, by_features = on_features(episode._replace(support_x=features[0], query_x=features[1]))
        by_trunk = tape.gradient(
            features, variables, output_gradients=by_features, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return found._replace(gradients=[a + b for a, b in zip(found.gradients, by_trunk)])

    return gradient


def _with_input_gradients(
    learner: Learner, task: Task, segment_length: int, episode: Episode
) -> tuple[MetaGradient, list[tf.Tensor]]:
    """Returns the meta-gradient, and the gradients by the support's and the query's inputs."""
    inputs = (episode.support_x, episode.query_x)
    variables = [weight.value for weight in learner.meta_parameters]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        state = lifetime.run(learner, episode, segment_length=segment_length).state
        outputs = query(learner, state, episode)
        loss = tf.reduce_mean(task.loss(outputs, episode.query_y))
    gradients, by_inputs = tape.gradient(loss, (variables, inputs), unconnected_gradients=tf.UnconnectedGradients.ZERO)
    error = tf.reduce_mean(task.error(outputs, episode.query_y))
    return MetaGradient(loss, error, gradients), list(by_inputs)
