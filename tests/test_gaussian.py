"""Gaussian initial weights: what is drawn, what it costs, and its meta-gradients."""

import math

import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    REGRESSION,
    assert_close,
    build_learner,
    in_mode,
    in_order,
    kernels_of,
    meta_gradient,
    newborn_learner,
    random_episode,
    to_numpy,
)

from flp_tf import seeds as lifetime_seeds
from flp_tf.initial import GaussianInitial
from flp_tf.layers import PlasticDense

GRANULARITIES = {"per_synapse": (4, 3), "per_neuron": (1, 3), "per_layer": (1, 1)}
SEEDS = np.array([[-7, 0], [7, 1]], np.int32)


def gaussian(**options):
    initial = GaussianInitial(dtype="float64", **options)
    initial.build((4, 3))
    return initial


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_information_and_penalty(granularity):
    """Synapse by synapse, by an integral over the density in NumPy."""
    initial = gaussian(granularity=granularity, prior_spread=0.7, penalty_weight=0.01)
    assert initial.log_spread.shape == GRANULARITIES[granularity]
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(4, 3))
    initial.log_spread.assign(rng.normal(-1, 0.3, initial.log_spread.shape))
    spread, prior, nats = np.exp(np.broadcast_to(initial.log_spread.numpy(), (4, 3))), 0.7 * math.sqrt(2 / 4), 0.0
    for mu, sigma in zip(kernel.ravel(), spread.ravel()):
        w = np.linspace(mu - 12 * sigma, mu + 12 * sigma, 20_001)
        log_density = -((w - mu) ** 2) / (2 * sigma**2) - np.log(sigma)
        log_prior = -(w**2) / (2 * prior**2) - np.log(prior)
        # By the trapezoidal rule: the density is 0 at both ends.
        nats += np.sum(np.exp(log_density) / math.sqrt(2 * math.pi) * (log_density - log_prior)) * (w[1] - w[0])
    assert_close(initial.bits(tf.constant(kernel)), nats / np.log(2), 1e-7)
    assert_close(initial.penalty(tf.constant(kernel)), 0.01 * nats, 1e-7)


def test_the_prior_itself_holds_nothing():
    initial = gaussian(spread=0.5, prior_spread=0.5, granularity="per_layer")
    assert_close(initial.bits(tf.zeros([4, 3], tf.float64)), 0.0)
    layer = PlasticDense(3, initial="gaussian")
    layer.build((None, 4))
    assert float(layer.bits()) > 0 and PlasticDense(3).initial.bits(tf.zeros([4, 3])) is None


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_moments(granularity):
    """Mean and spread of many draws, entry by entry, of which no two are the same."""
    initial = gaussian(granularity=granularity)
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(4, 3))
    initial.log_spread.assign(rng.normal(-1, 0.5, initial.log_spread.shape))
    seeds = np.stack([np.full(2000, 3), np.arange(2000)], -1).astype(np.int32)
    drawn = in_mode(lambda: initial(tf.constant(kernel), tf.constant(seeds)), "graph")().numpy()
    spread = np.exp(np.broadcast_to(initial.log_spread.numpy(), (4, 3)))
    assert np.max(np.abs(drawn.mean(0) - kernel) / spread) < 5 / math.sqrt(2000)
    assert np.max(np.abs(drawn.std(0) / spread - 1)) < 5 / math.sqrt(4000)
    assert len(np.unique(drawn)) == drawn.size


def test_draws_follow_from_the_seeds(float64):
    """The same in every mode and meta-batch; others in every layer and lifetime; the mean without seeds."""
    learner = newborn_learner(initial="gaussian", network="5-5-5-5", num_plastic_layers=4, initial_spread=1.0)
    draw = lambda: kernels_of(learner, learner.initial_state(tf.constant(SEEDS)))  # noqa: E731
    every = [in_mode(draw, mode)() for mode in ("eager", "xla")]
    assert_close(*every)
    alone = kernels_of(learner, learner.initial_state(tf.constant(SEEDS[1:])))
    assert_close([kernel[1:] for kernel in every[0]], alone, tolerance=0)
    means = kernels_of(learner, learner.initial_state())
    assert_close(means, [layer.kernel.numpy() for layer in learner.network.head], tolerance=0)
    noise = np.stack([drawn - mean for drawn, mean in zip(every[0][:-1], means)])
    assert len(np.unique(np.round(noise, 12))) == noise.size


def test_folded_seeds():
    folded = [lifetime_seeds.fold(tf.constant(SEEDS), number).numpy() for number in (0, 1, 0)]
    assert len(np.unique(np.concatenate([SEEDS, *folded[:2]]), axis=0)) == 6
    assert_close(folded[0], folded[2], tolerance=0)
    assert lifetime_seeds.fold(None, 1) is None


@pytest.mark.parametrize("granularity", ["per_synapse", "per_layer"])
def test_meta_gradients(granularity, float64):
    """By `mu` and `log sigma`, the penalty among them, against central differences."""
    learner = build_learner(initial="gaussian", initial_granularity=granularity, initial_penalty_weight=0.01)
    for layer in learner.network.head:
        layer.initial.log_spread.assign(0.1 * layer.initial.log_spread - 2.0)
    episode = random_episode(steps=3)
    found = meta_gradient(learner, REGRESSION, episode, 2)
    gradients = dict(zip(learner.trainable, in_order(learner, found.gradients)))
    paths = [f"network/layers/{layer.name}/initial/log_spread" for layer in learner.network.head]
    assert list(learner.groups()["initial"]) == paths
    loss = tf.function(lambda: meta_gradient(learner, REGRESSION, episode, -1).loss, autograph=False)
    for path in (*paths, "network/layers/layer_1/kernel"):
        weight, gradient = learner.trainable[path], gradients[path].numpy()
        index = np.unravel_index(np.argmax(np.abs(gradient)), gradient.shape)
        value, losses = to_numpy(weight), []
        for step in (1e-5, -1e-5):
            moved = value.copy()
            moved[index] += step
            weight.assign(moved)
            losses.append(float(loss()))
        weight.assign(value)
        assert_close(gradient[index], (losses[0] - losses[1]) / 2e-5, 1e-7)
        assert abs(gradient[index]) > 1e-3
    with_price = newborn_learner(initial="gaussian", initial_penalty_weight=1.0)
    expected = sum(float(layer.bits()) for layer in with_price.network.head) * math.log(2)
    assert_close(float(with_price.penalty()), expected, 1e-6)
