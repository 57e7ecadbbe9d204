"""Backpropagation through the whole lifetime (paper, section 4.1)."""

import dataclasses

import tensorflow as tf

from flp_tf import lifetime
from flp_tf.learners.base import Learner
from flp_tf.meta.estimators.base import Estimate, Estimator, outer_loss, weights_of
from flp_tf.registry import option
from flp_tf.tasks.base import Episode, Task


class Backprop(Estimator):
    """The exact gradient of the query loss after a lifetime.

        loss = mean over lifetimes of task.loss(outputs, query_y) + learner.penalty()

    Args:
        segment_length: inner steps between two kept states, see `lifetime.run`.
    """

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options of `Backprop`."""

        segment_length: int = option(
            lifetime.AUTO,
            "Inner steps between kept states, --lifetime for most speed; 0: automatic, -1: by plain automatic "
            "differentiation.",
            incidental=True,
            least=lifetime.PLAIN,
        )

    def __init__(self, segment_length: int = lifetime.AUTO):
        self.segment_length = segment_length

    def estimate(self, learner: Learner, task: Task, episode: Episode, seed: tf.Tensor | None = None) -> Estimate:
        """Returns loss, error and gradients; see `Estimator.estimate`. Nothing is drawn from `seed`."""
        del seed
        with tf.GradientTape() as tape:
            loss, error = outer_loss(learner, task, episode, self.segment_length)
        weights = weights_of(learner)
        return Estimate(loss, error, tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO))

    def estimate_from_features(
        self, learner: Learner, task: Task, episode: Episode
    ) -> tuple[Estimate, tuple[tf.Tensor, tf.Tensor]]:
        """Returns the estimate for a trunk that ran already, and the gradients by its features.

        The gradients by the trunk's weights have nothing of what goes through the features.

        Args:
            learner: the learner.
            task: gives loss and error.
            episode: has `learner.encode(x)` in place of `support_x` and `query_x`.

        Returns:
            The estimate, and the gradients of the loss by `support_x` and `query_x`.
        """
        features = (episode.support_x, episode.query_x)
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss, error = outer_loss(learner, task, episode, self.segment_length, tf.identity)
        gradients, by_features = tape.gradient(
            loss, (weights_of(learner), features), unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return Estimate(loss, error, gradients), by_features
