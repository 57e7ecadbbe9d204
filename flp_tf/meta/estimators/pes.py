"""Persistent evolution strategies: updates within a lifetime, without backpropagation (paper, section 8.2)."""

import dataclasses

import tensorflow as tf

from flp_tf import lifetime
from flp_tf.learners.base import Learner
from flp_tf.meta.estimators.base import Estimate, query_loss, weights_of
from flp_tf.meta.estimators.es import EvolutionStrategies, Weights
from flp_tf.registry import option
from flp_tf.tasks.base import Episode, Task


class PersistentEvolutionStrategies(EvolutionStrategies):
    """Estimates a gradient after each of several unrolls of a lifetime (Vicol et al. 2021, arXiv:2112.13835).

    A lifetime is cut into `K` unrolls of as many inner steps each. Each pair `i` is two
    networks, which keep their states from unroll to unroll. In unroll `k` they have the weights `w + s e_ik` and
    `w - s e_ik`, with a new `e_ik` drawn from a standard normal distribution, and then answer
    the lifetime's query, with the losses `L_ik+` and `L_ik-`:

        gradient_k = mean over i = 1...pairs of xi_ik * (L_ik+ - L_ik-) / (2 s),   xi_ik = e_i1 + ... + e_ik

    `xi` gives the weights of all earlier unrolls their part in the loss, so that nothing is
    lost where a lifetime is cut: the mean of the `gradient_k` has the expectation

        gradient of the mean over k of L_k

    averaged over weights around `w`. Each `gradient_k` is applied before unroll `k + 1`
    begins: `K` updates a lifetime, each for `1 / K` of its inner steps. States and `xi` start
    anew with each lifetime. With `K = 1` this is `EvolutionStrategies`. With more it minimizes
    another loss: the query counts after each unroll, not after the last alone, and in a
    continual lifetime with what was not met yet. Memory does not grow with the lifetime.

    `--warmup_steps` and `--schedule=cosine` count updates.

    Args:
        pairs: pairs of networks.
        perturbation: `s`.
        unrolls: `K`. Where it does not divide a lifetime, the largest smaller number that does.
    """

    @dataclasses.dataclass(frozen=True)
    class Options(EvolutionStrategies.Options):
        """Options of `PersistentEvolutionStrategies`."""

        unrolls: int = option(
            4,
            "Parts of a lifetime, with an update of the weights after each; fewer where they do not divide it.",
            least=1,
        )

    def __init__(
        self,
        pairs: int = Options.pairs,
        perturbation: float = Options.perturbation,
        unrolls: int = Options.unrolls,
    ):
        super().__init__(pairs, perturbation)
        self.unrolls = unrolls

    def build(self, learner: Learner, task: Task, lifetimes: int) -> None:
        """Makes the states of all networks, and `xi`; see `Estimator.build`.

        An outer step begins and ends between lifetimes, when nothing of them is needed:
        checkpoints have none of it.
        """
        super().build(learner, task, lifetimes)
        states = learner.initial_state(tf.zeros([lifetimes, 2], tf.int32))
        self._states = tf.nest.map_structure(lambda part: _zeros([self.pairs, 2, *part.shape], part.dtype), states)
        self._sums = tf.nest.map_structure(
            lambda weight: _zeros([self.pairs, *weight.shape], weight.dtype), weights_of(learner)
        )
        self._unroll = _zeros([], tf.int32)

    def updates(self, task: Task) -> int:
        """Returns the number of unrolls of a lifetime; see `Estimator.updates`."""
        return next(count for count in range(min(self.unrolls, task.steps), 0, -1) if task.steps % count == 0)

    def estimate(self, learner: Learner, task: Task, episode: Episode, seed: tf.Tensor) -> Estimate:
        """Returns loss, error and gradient of the next unroll; see `Estimator.estimate`."""
        count = self.updates(task)
        # An index in brackets would be a constant to XLA, which would compile every unroll anew.
        support = [
            tf.gather(tf.reshape(part, [count, -1, *part.shape[1:]]), self._unroll)
            for part in (episode.support_x, episode.support_y)
        ]
        part = episode._replace(support_x=support[0], support_y=support[1])
        found = super().estimate(learner, task, part, tf.random.fold_in(seed, self._unroll, alg="philox"))
        self._unroll.assign((self._unroll + 1) % count)
        return found

    def _play(
        self, learner: Learner, task: Task, episode: Episode, i: tf.Tensor, side: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Goes on from where the network is; returns loss and error after the unroll."""
        first = learner.initial_state(episode.seed)
        state = tf.nest.map_structure(lambda new, kept: self._since_start(kept[i, side], new), first, self._states)
        state = lifetime.run(learner, episode, state=state, segment_length=lifetime.PLAIN).state
        tf.nest.map_structure(lambda kept, new: kept.scatter_nd_update([[i, side]], new[None]), self._states, state)
        return query_loss(learner, task, episode, state)

    def _credited(self, i: tf.Tensor, direction: Weights) -> Weights:
        """Returns `xi` of pair `i`: the sum of its directions since the lifetime began."""

        def add(total: tf.Variable, e: tf.Tensor) -> tf.Tensor:
            new = self._since_start(total[i], tf.zeros_like(e)) + e
            total.scatter_nd_update([[i]], new[None])
            return new

        return tf.nest.map_structure(add, self._sums, direction)

    def _since_start(self, kept: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        """Returns what is kept from the unroll before, `first` in a lifetime's first."""
        return tf.where(self._unroll == 0, first, kept)


def _zeros(shape: list[int], dtype: tf.DType) -> tf.Variable:
    return tf.Variable(tf.zeros(shape, dtype), trainable=False)
