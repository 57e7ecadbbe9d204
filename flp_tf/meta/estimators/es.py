"""Antithetic evolution strategies: the meta-gradient without backpropagation (paper, section 8.2)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from flp_tf import lifetime
from flp_tf.errors import InputError
from flp_tf.learners.base import Learner
from flp_tf.meta.estimators.base import Estimate, Estimator, outer_loss, weights_of
from flp_tf.registry import option
from flp_tf.tasks.base import Episode, Task

Weights = Mapping[str, Mapping[str, Any]]
# Signals are handled between two outer steps only, so no step may take days.
MOST_PAIRS = 10_000


class EvolutionStrategies(Estimator):
    """Estimates the gradient from losses at perturbed weights (Salimans et al. 2017, arXiv:1703.03864).

    With `e_i` drawn from a standard normal distribution for all trainable weights `w`,

        gradient = mean over i = 1...pairs of e_i * (L(w + s e_i) - L(w - s e_i)) / (2 s)

    which is the gradient of the loss averaged over weights around `w`, with spread `s`.
    Nothing of a lifetime is kept but its state, so memory does not grow with its length,
    and the inner step need not be differentiable.

    Args:
        pairs: how many `e_i` for each outer step; a step costs two lifetimes per pair.
        perturbation: `s`.
    """

    # Lifetimes share the perturbed weights, so they run side by side.
    separable = False

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options of `EvolutionStrategies`."""

        pairs: int = option(
            8,
            "Perturbations of the weights for each outer step, each with both signs: two lifetimes.",
            least=1,
            most=MOST_PAIRS,
        )
        perturbation: float = option(0.01, "Standard deviation of the perturbations.", least=1e-6)

    def __init__(self, pairs: int = Options.pairs, perturbation: float = Options.perturbation):
        self.pairs, self.perturbation = pairs, perturbation

    def build(self, learner: Learner, task: Task, lifetimes: int) -> None:
        """Checks that there is one device; see `Estimator.build`.

        Raises:
            InputError: if there are several, whose copies of the weights cannot be perturbed.
        """
        del learner, task, lifetimes
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            raise InputError(
                "--distribution over several devices does not go with estimators that perturb weights; legal is none"
            )

    def estimate(self, learner: Learner, task: Task, episode: Episode, seed: tf.Tensor) -> Estimate:
        """Returns loss and error, both means over the perturbed weights, and the gradient; see `Estimator.estimate`."""
        weights = weights_of(learner)
        # The very weights come back afterwards: adding and subtracting would round them.
        kept = tf.nest.map_structure(tf.identity, weights)

        def pair(i: tf.Tensor, loss: tf.Tensor, error: tf.Tensor, gradients: Weights) -> tuple:
            direction = _directions(weights, tf.random.fold_in(seed, i, alg="philox"))
            found = []
            for side, sign in enumerate((1.0, -1.0)):
                _assign(weights, kept, direction, sign * self.perturbation)
                found.append(self._play(learner, task, episode, i, side))
            direction = self._credited(i, direction)
            slope = (found[0][0] - found[1][0]) / (2 * self.perturbation)
            gradients = tf.nest.map_structure(
                lambda total, e: total + tf.cast(slope, e.dtype) * e, gradients, direction
            )
            return i + 1, loss + found[0][0] + found[1][0], error + found[0][1] + found[1][1], gradients

        dtype = learner.network.compute_dtype
        start = (tf.constant(0), tf.zeros([], dtype), tf.zeros([], dtype), tf.nest.map_structure(tf.zeros_like, kept))
        _, loss, error, gradients = tf.while_loop(lambda i, *_: i < self.pairs, pair, start)
        _assign(weights, kept, kept, 0.0)
        mean = tf.nest.map_structure(lambda total: total / self.pairs, gradients)
        return Estimate(loss / (2 * self.pairs), error / (2 * self.pairs), mean)

    def _play(
        self, learner: Learner, task: Task, episode: Episode, i: tf.Tensor, side: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns loss and error at the present weights: those of pair `i`, with plus (side 0) or minus (1)."""
        del i, side
        # Without a gradient a plain lifetime keeps its state alone.
        return outer_loss(learner, task, episode, lifetime.PLAIN)

    def _credited(self, i: tf.Tensor, direction: Weights) -> Weights:
        """Returns what the difference of the losses of pair `i` is due to: its direction."""
        del i
        return direction


def _directions(weights: Weights, seed: tf.Tensor) -> dict[str, dict[str, tf.Tensor]]:
    """Returns a standard normal tensor for every weight."""
    count = sum(len(of_group) for of_group in weights.values())
    seeds = iter(tf.unstack(tf.random.split(seed, count, alg="philox")))
    return {
        group: {
            path: tf.random.stateless_normal(weight.shape, next(seeds), dtype=weight.dtype, alg="philox")
            for path, weight in of_group.items()
        }
        for group, of_group in weights.items()
    }


def _assign(weights: Weights, kept: Weights, direction: Weights, factor: float) -> None:
    """Sets all weights to `kept + factor * direction`."""
    for group, of_group in weights.items():
        for path, weight in of_group.items():
            weight.assign(kept[group][path] + factor * direction[group][path] if factor else kept[group][path])
