"""The engine's gradient costs no accuracy: float32 meta-gradients of networks that learn well."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import in_order, meta_gradient

from flp_tf import learners, lifetime, pretrained

pytestmark = pytest.mark.slow


def gradients_of(learner, task, episode, segment_length, jit_compile=True) -> np.ndarray:
    """Returns all meta-gradients of an episode, in a row."""

    def step(episode):
        return meta_gradient(learner, task, episode, segment_length).gradients

    found = tf.function(step, autograph=False, jit_compile=jit_compile)(episode)
    return np.concatenate([gradient.numpy().ravel() for gradient in in_order(learner, found)])


@pytest.mark.parametrize("name", ["sine_continual_flp2", "sine_continual_gradient3"])
def test_float32_is_as_accurate_as_the_plain_loop(name):
    """Over 400 steps and strong plasticity, the engine is as far from float64 as autodiff is.

    Of the 32 examples of a step it is given 8, to save time: what adds up over a lifetime are errors of its steps.
    """
    _, config, task, learner = pretrained.load(name)
    episode = task.compiled_sample(config.seed, tf.constant(0), 1, "validation")
    episode = episode._replace(support_x=episode.support_x[:, :, :8], support_y=episode.support_y[:, :, :8])
    plain, engine = (gradients_of(learner, task, episode, length) for length in (lifetime.PLAIN, task.steps))

    exact_learner = learners.build(config, task, "float64")
    for path, weight in learner.variables.items():
        exact_learner.variables[path].assign(tf.cast(weight.value, tf.float64))
    exact_episode = tf.nest.map_structure(
        lambda part: tf.cast(part, tf.float64) if part.dtype.is_floating else part, episode
    )
    exact = gradients_of(exact_learner, task, exact_episode, lifetime.PLAIN, jit_compile=False)

    def error(gradients):
        return np.linalg.norm(gradients - exact) / np.linalg.norm(exact)

    assert 0 < error(engine) < 1.1 * error(plain) < 1e-2
