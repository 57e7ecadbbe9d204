"""Two trials of docs/outer_loop.md that flp_tf has no flag for: `--plugins=docs/outer_loop_trials.py`."""

import tensorflow as tf

from flp_tf import lifetime
from flp_tf.errors import InputError
from flp_tf.meta.estimators import ESTIMATORS
from flp_tf.meta.estimators.backprop import Backprop
from flp_tf.meta.estimators.base import Estimate, query_loss, weights_of
from flp_tf.tasks import TASKS
from flp_tf.tasks.base import Episode
from flp_tf.tasks.sine import Sine


def check_continual(task: Sine) -> None:
    """Raises InputError unless sine comes after sine."""
    if not task.continual:
        raise InputError("--nocontinual: the sines of a part of a lifetime are known in continual order alone")


@TASKS.register("growing_sines")
class GrowingSines(Sine):
    """Continual sines of which a shorter lifetime has the first alone, with as many steps each; for `--curriculum`.

    Raises:
        InputError: if the order is not continual.
    """

    whole: Sine | None = None

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        check_continual(self)

    def with_lifetime(self, steps: int) -> "GrowingSines":
        """Returns the first `steps` steps of the lifetime, with the queries of their sines.

        Raises:
            InputError: if these are no whole sines, or more than there are.
        """
        whole = self.whole or self
        of_one = whole.steps // whole.num_concepts
        if steps % of_one or not 0 < steps <= whole.steps:
            legal = f"multiples of {of_one} up to {whole.steps}"
            raise InputError(f"--curriculum: lifetimes of {steps} steps are no whole sines; legal are {legal}")
        shorter = whole._of_length(steps)
        if shorter is not whole:
            shorter.num_concepts = steps // of_one
            shorter.query_examples = whole.query_examples * steps // whole.steps
            shorter.whole = whole
        return shorter

    def sample_lifetime(self, seed: tf.Tensor, split: str) -> Episode:
        """Draws an episode of all sines, and returns its beginning."""
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
        check_continual(task)
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
