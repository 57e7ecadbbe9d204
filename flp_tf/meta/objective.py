"""The meta-objective: query loss after a lifetime, and its gradient."""

import copy
import functools
import math
import os
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
    """Returns `meta_gradient` of an episode, compiled for the devices that there are.

    On a GPU the lifetimes of a meta-batch run side by side. On a CPU each core has its
    own at a time: small matrix products gain more from that than from sharing one.

    Args:
        learner: the learner.
        task: gives loss and error.
        segment_length: see `lifetime.run`.
        jit_compile: whether XLA compiles lifetimes.
    """
    compiled = tf.function(autograph=False, jit_compile=jit_compile)
    whole = compiled(functools.partial(meta_gradient, learner, task, segment_length=segment_length))
    if tf.config.list_physical_devices("GPU"):
        return whole
    # XLA's convolutions take about twice as long on a CPU as TensorFlow's own.
    apart = jit_compile and learner.network.convolutional_trunk
    single = _trunk_apart(learner, task, segment_length, whole) if apart else whole

    @tf.function(autograph=False)
    def few_by_few(episode):
        lifetimes = episode.query_x.shape[0]
        together = math.gcd(lifetimes, _cores())

        def few(i, total=None):
            # Nothing connects the calls, so that TensorFlow runs them in parallel.
            for found in [single(episode.lifetime(i + k)) for k in range(together)]:
                total = found if total is None else tf.nest.map_structure(tf.add, total, found)
            return total

        _, total = tf.while_loop(
            lambda i, _: i < lifetimes,
            lambda i, total: (i + together, few(i, total)),
            (tf.constant(together), few(0)),
        )
        return tf.nest.map_structure(lambda part: part / lifetimes, total)

    return few_by_few


def _cores() -> int:
    """Returns how many cores this process may use: all of them where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _trunk_apart(learner: Learner, task: Task, segment_length: int, whole: Callable) -> Callable:
    """Returns a meta-gradient with the trunk outside of XLA, differentiated through its features.

    Where the trunk would not run over the whole lifetime in one go, that is `whole`.
    """
    # The same learner, for examples that have been through the trunk already.
    headed = copy.copy(learner)
    headed.encode = tf.identity
    of_head = functools.partial(_with_input_gradients, headed, task, segment_length)
    of_head = tf.function(of_head, autograph=False, jit_compile=True)
    variables = [weight.value for weight in learner.meta_parameters]

    def gradient(episode):
        if not lifetime.hoists_trunk(learner, episode.support_x):
            return whole(episode)
        with tf.GradientTape() as tape:
            features = [learner.encode(x) for x in (episode.support_x, episode.query_x)]
        found, by_features = of_head(episode._replace(support_x=features[0], query_x=features[1]))
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
