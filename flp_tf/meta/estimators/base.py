"""The contract of an estimator: the loss of a meta-batch of lifetimes, and its gradient."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from flp_tf import lifetime
from flp_tf.learners.base import Learner
from flp_tf.tasks.base import Episode, Task


class Estimate(NamedTuple):
    """What one outer step needs.

    Attributes:
        loss: the query loss, mean over lifetimes, plus the learner's penalty; a scalar.
        error: the query error in the task's unit, mean over lifetimes; a scalar.
        gradients: `{group: {path: tensor}}`, one tensor per trainable weight of the
            learner, nested as `Learner.groups` is.
    """

    loss: tf.Tensor
    error: tf.Tensor
    gradients: dict[str, dict[str, tf.Tensor]]


class Estimator(abc.ABC):
    """Estimates the gradient of the expected query loss by all trainable weights.

    Attributes:
        separable: whether the estimate of a meta-batch is the mean of those of its
            lifetimes. If so, lifetimes may run one after the other or on several devices.
    """

    separable = True

    def build(self, learner: Learner, task: Task, lifetimes: int) -> None:  # noqa: B027 (most have no state)
        """Makes the state that the estimator keeps between outer steps, if any.

        Args:
            learner: the learner.
            task: the task.
            lifetimes: of a meta-batch, on one device.
        """

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """The state that is kept between outer steps, by name; checkpoints have it."""
        return {}

    def updates(self, task: Task) -> int:
        """Returns how often the weights change on a meta-batch of lifetimes: once.

        Where it is more, `estimate` is called that often with the same episode and seed, and each
        estimate is applied before the next call.

        Args:
            task: of the lifetimes.
        """
        del task
        return 1

    @abc.abstractmethod
    def estimate(self, learner: Learner, task: Task, episode: Episode, seed: tf.Tensor) -> Estimate:
        """Returns the estimate of a meta-batch; called inside `tf.function`.

        Args:
            learner: the learner.
            task: gives loss and error.
            episode: the data, from `Task.sample`.
            seed: stateless seed, int32 `[2]`; whatever the estimator draws comes from it.
        """


def weights_of(learner: Learner) -> dict[str, dict[str, Any]]:
    """Returns the trainable weights as TensorFlow variables, nested as `Learner.groups` is."""
    return {
        group: {path: weight.value for path, weight in weights.items()} for group, weights in learner.groups().items()
    }


def outer_loss(
    learner: Learner,
    task: Task,
    episode: Episode,
    segment_length: int = lifetime.AUTO,
    encode: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what meta-training minimizes, and the error in the task's unit, after the lifetimes of a meta-batch.

        loss = mean over lifetimes of task.loss(outputs, query_y) + learner.penalty()

    Args:
        learner: the learner.
        task: gives loss and error.
        episode: the data.
        segment_length: see `lifetime.run`.
        encode: see `lifetime.run`.
    """
    state = lifetime.run(learner, episode, segment_length=segment_length, encode=encode).state
    return query_loss(learner, task, episode, state, encode)


def query_loss(
    learner: Learner,
    task: Task,
    episode: Episode,
    state: Any,
    encode: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns loss, with the learner's penalty, and error of the query in a state; see `outer_loss`."""
    outputs = lifetime.query(learner, state, episode, encode)
    loss = tf.reduce_mean(task.loss(outputs, episode.query_y))
    error = tf.reduce_mean(task.error(outputs, episode.query_y))
    return loss + tf.cast(learner.penalty(), loss.dtype), error
