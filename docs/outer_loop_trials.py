"""Two trials of docs/outer_loop.md that flp_tf has no flag for: `--plugins=docs/outer_loop_trials.py`."""

import tensorflow as tf

from flp_tf import lifetime
from flp_tf.meta.estimators import ESTIMATORS
from flp_tf.meta.estimators.backprop import Backprop
from flp_tf.meta.estimators.base import Estimate, query_loss, weights_of
from flp_tf.tasks import TASKS
from flp_tf.tasks.base import Episode
from flp_tf.tasks.sine import Sine


@TASKS.register("growing_sines")
class GrowingSines(Sine):
    """Sines of which a shorter lifetime has the first alone, with as many steps each; for `--curriculum`."""

    whole: Sine | None = None

    def with_lifetime(self, steps: int) -> "GrowingSines":
        """Returns the first `steps` steps of the lifetime, with the queries of their sines."""
        shorter = super().with_lifetime(steps)
        shorter.query_examples = self.query_examples * steps // self.steps
        shorter.whole = self
        return shorter

    def sample_lifetime(self, seed: tf.Tensor, split: str) -> Episode:
        """Draws an episode of all sines in continual order, and returns its beginning."""
        episode = Sine.sample_lifetime(self.whole or self, seed, split)
        support, query = slice(self.steps), slice(self.query_examples)
        return Episode(
            episode.support_x[support], episode.support_y[support], episode.query_x[query], episode.query_y[query]
        )


@ESTIMATORS.register("halves")
class Halves(Backprop):
    """Asks for the first half of the sines after half of a continual lifetime, too; the mean of both losses counts."""

    def estimate(self, learner, task, episode, seed=None) -> Estimate:
        """Returns loss, error at the end, and gradients; see `Estimator.estimate`."""
        half, queries = episode.support_x.shape[0] // 2, episode.query_x.shape[1] // 2
        first = episode._replace(
            support_x=episode.support_x[:half],
            support_y=episode.support_y[:half],
            query_x=episode.query_x[:, :queries],
            query_y=episode.query_y[:, :queries],
        )
        second = episode._replace(support_x=episode.support_x[half:], support_y=episode.support_y[half:])
        with tf.GradientTape() as tape:
            state = lifetime.run(learner, first, segment_length=self.segment_length).state
            at_half, _ = query_loss(learner, task, first, state)
            state = lifetime.run(learner, second, state=state, segment_length=self.segment_length).state
            at_end, error = query_loss(learner, task, second, state)
            loss = (at_half + at_end) / 2.0
        gradients = tape.gradient(loss, weights_of(learner), unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return Estimate(loss, error, gradients)
