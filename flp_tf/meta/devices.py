"""Estimates compiled for the available devices."""

import functools
import math
import os
from collections.abc import Callable

import tensorflow as tf

# The only place where TensorFlow keeps the gradients of traced custom gradients.
from tensorflow.python.framework import ops

from flp_tf import lifetime
from flp_tf.learners.base import Learner
from flp_tf.meta.estimators.base import Estimate, Estimator, weights_of
from flp_tf.tasks.base import Episode, Task

Compiled = Callable[[Episode, tf.Tensor], Estimate]


def compiled_estimate(estimator: Estimator, learner: Learner, task: Task, jit_compile: bool = True) -> Compiled:
    """Returns `estimate(episode, seed)`, compiled.

    On a GPU the lifetimes of a meta-batch run side by side. On a CPU each core runs one
    lifetime at a time: for small matrix products this is faster than sharing one lifetime among cores.

    Args:
        estimator: gives loss, error and gradients.
        learner: the learner.
        task: gives loss and error.
        jit_compile: whether XLA compiles lifetimes.
    """
    # TensorFlow warns of a function that it compiles often. A partial function is a new one each time.
    estimate = functools.partial(estimator.estimate, learner, task)
    whole = tf.function(estimate, autograph=False, jit_compile=jit_compile)
    if tf.config.list_physical_devices("GPU") or not estimator.separable:
        return whole
    # XLA's convolutions take about twice as long on a CPU as TensorFlow's own.
    from_features = getattr(estimator, "estimate_from_features", None)
    apart = jit_compile and from_features is not None and learner.network.convolutional_trunk
    return _few_by_few(_trunk_apart(from_features, learner, task, whole) if apart else whole)


def freed_with_its_graphs(function: Callable) -> Callable:
    """Returns a compiled function whose graphs are freed together with it.

    TensorFlow registers the gradient of every traced `tf.custom_gradient`, and with it
    the graph, until the process ends. A function that computes its own gradients does
    not need these registrations after it is traced.

    Args:
        function: of tensors. No gradients may be taken of its outputs.
    """
    compiled, names = tf.function(function, autograph=False), ops.gradient_registry.list()

    def call(*arguments: tf.Tensor):
        count = len(names)
        try:
            return compiled(*arguments)
        finally:
            # `names` has all present registrations, the newest last. Most calls trace nothing.
            for name in list(names)[count:] if len(names) > count else ():
                if name.startswith("CustomGradient-"):
                    del ops.gradient_registry._registry[name]

    return call


def _few_by_few(single: Compiled) -> Compiled:
    """Returns a function for the mean of estimates of single lifetimes, of which each core runs one at a time.

    Args:
        single: the estimate of a meta-batch of one.
    """

    def estimate(single: Compiled, episode: Episode, seed: tf.Tensor) -> Estimate:
        lifetimes = episode.query_x.shape[0]
        together = math.gcd(lifetimes, _cores())

        def few(i, total=None):
            # The calls do not depend on each other, so TensorFlow runs them in parallel.
            found = [
                single(episode.lifetime(i + k), tf.random.fold_in(seed, i + k, alg="philox")) for k in range(together)
            ]
            for part in found:
                total = part if total is None else tf.nest.map_structure(tf.add, total, part)
            return total

        total = few(tf.constant(0))
        # Even a loop without iterations would be a second copy of the graph to compile.
        if together < lifetimes:
            _, total = tf.while_loop(
                lambda i, _: i < lifetimes,
                lambda i, total: (i + together, few(i, total)),
                (tf.constant(together), total),
            )
        return tf.nest.map_structure(lambda part: part / lifetimes, total)

    return tf.function(functools.partial(estimate, single), autograph=False)


def _cores() -> int:
    """Returns the number of cores that this process may use: all of them if the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _trunk_apart(from_features: Callable, learner: Learner, task: Task, whole: Compiled) -> Compiled:
    """Returns an estimate with the trunk outside of XLA, differentiated through its features.

    If the trunk would not run over the whole lifetime at once, the estimate is that of `whole`.
    """
    of_head = functools.partial(from_features, learner, task)
    of_head = tf.function(of_head, autograph=False, jit_compile=True)

    def estimate(episode: Episode, seed: tf.Tensor) -> Estimate:
        if not lifetime.hoists_trunk(learner, episode.support_x):
            return whole(episode, seed)
        with tf.GradientTape() as tape:
            features = [learner.encode(x) for x in (episode.support_x, episode.query_x)]
        found, by_features = of_head(episode._replace(support_x=features[0], query_x=features[1]))
        by_trunk = tape.gradient(
            features,
            weights_of(learner),
            output_gradients=list(by_features),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return found._replace(gradients=tf.nest.map_structure(tf.add, found.gradients, by_trunk))

    return estimate
