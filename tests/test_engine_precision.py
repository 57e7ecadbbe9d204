"""Taking steps back costs no accuracy: float32 meta-gradients of networks that learn well."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from flp_tf import learners, lifetime, pretrained
from flp_tf.meta.objective import meta_gradient


def gradients_of(learner, task, episode, segment_length) -> np.ndarray:
    """Returns all meta-gradients of an episode, in a row."""
    step = functools.partial(meta_gradient, learner, task, segment_length=segment_length)
    found = tf.function(step, autograph=False, jit_compile=True)(episode)
    return np.concatenate([gradient.numpy().ravel() for gradient in found.gradients])


@pytest.mark.parametrize("name", ["sine_continual_flp2", "sine_continual_gradient3"])
def test_float32_is_as_accurate_as_the_plain_loop(name, request):
    """Over 400 steps and strong plasticity, the engine is as far from float64 as autodiff is."""
    config, task, learner = pretrained.load(name)
    episode = task.compiled_sample(config.seed, tf.constant(0), 1, "validation")
    plain, engine = (gradients_of(learner, task, episode, length) for length in (lifetime.PLAIN, task.steps))

    request.getfixturevalue("float64")
    exact_learner = learners.build(config, task)
    for exact, weight in zip(exact_learner.network.weights, learner.network.weights):
        exact.assign(tf.cast(weight.value, tf.float64))
    exact_episode = tf.nest.map_structure(lambda part: tf.cast(part, tf.float64), episode)
    exact = gradients_of(exact_learner, task, exact_episode, lifetime.PLAIN)

    def error(gradients):
        return np.linalg.norm(gradients - exact) / np.linalg.norm(exact)

    assert 0 < error(engine) < 1.1 * error(plain) < 1e-2
