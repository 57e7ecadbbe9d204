"""The contract of a task, and the structure of an episode."""

import abc
import functools
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import tensorflow as tf

from flp_tf import losses

# Meta-training, choosing among runs while they train, and the final meta-test draw
# from disjoint sets of sines or classes.
SPLITS = ("train", "validation", "test")


class Episode(NamedTuple):
    """The data of a meta-batch of lifetimes; all tensors but the query time-major.

    Attributes:
        support_x: inner steps' examples `[steps, lifetimes, batch, *input_shape]`.
        support_y: their targets `[steps, lifetimes, batch, outputs]`.
        query_x: unseen examples of the same episode `[lifetimes, examples,
            *input_shape]`, those of a sine (or class) side by side and in the order
            of `Task.num_concepts`.
        query_y: their targets `[lifetimes, examples, outputs]`.
    """

    support_x: tf.Tensor
    support_y: tf.Tensor
    query_x: tf.Tensor
    query_y: tf.Tensor

    def lifetime(self, i: int | tf.Tensor) -> "Episode":
        """Returns lifetime `i`, as a meta-batch of one."""
        support = [tf.gather(part, [i], axis=1) for part in self[:2]]
        return Episode(*support, *[tf.gather(part, [i]) for part in self[2:]])


class Task(abc.ABC):
    """A family of episodes. Knows nothing of methods.

    Attributes:
        input_shape: of one example.
        num_outputs: of the network.
        num_concepts: sines, or classes, of an episode.
        steps: inner steps of a lifetime.
        defaults: the paper's configuration for this task, by flag.
        concept: what an episode consists of, "sine" or "class".
        unit: of the error, for tables and axes.
    """

    input_shape: tuple[int, ...]
    num_outputs: int
    num_concepts: int
    steps: int
    concept: ClassVar[str] = "concept"
    defaults: ClassVar[Mapping[str, object]] = {}
    unit: ClassVar[str] = "MSE"
    loss: ClassVar[Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = staticmethod(losses.mean_squared_error)
    error: ClassVar[Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = staticmethod(losses.mean_squared_error)

    @classmethod
    @abc.abstractmethod
    def from_config(cls, config) -> "Task":
        """Returns the task that a `Config` describes."""

    @abc.abstractmethod
    def sample_lifetime(self, seed: tf.Tensor, split: str) -> Episode:
        """Draws the data of one lifetime inside the graph.

        Args:
            seed: stateless seed, int32 `[2]`; the same seed gives the same lifetime.
            split: one of `SPLITS`.

        Returns:
            An `Episode` without the axis of lifetimes.
        """

    def sample(self, seed: int, index: tf.Tensor, count: int, split: str) -> Episode:
        """Draws lifetimes `index, ..., index + count - 1` of a split.

        A lifetime depends on its own number alone, so the data are the same however
        they are dealt into meta-batches, replicas or interrupted runs.

        Args:
            seed: of the run.
            index: number of the first lifetime, int32 scalar.
            count: how many.
            split: one of `SPLITS`.
        """
        indices = tf.range(count, dtype=tf.int32) + index
        signature = Episode(*[tf.TensorSpec(None, tf.float32)] * 4)
        lifetimes = tf.map_fn(
            lambda i: self.sample_lifetime(tf.stack([seed, i]), split), indices, fn_output_signature=signature
        )
        time_major = [tf.einsum("mt...->tm...", part) for part in lifetimes[:2]]
        return self.with_static_shapes(Episode(*time_major, *lifetimes[2:]), count)

    @functools.cached_property
    def compiled_sample(self) -> Callable[..., Episode]:
        """`sample`, compiled; for callers outside of a graph, to whom it is slow."""
        return tf.function(self.sample, autograph=False)

    def with_static_shapes(self, episode: Episode, count: int) -> Episode:
        """Restores the static shapes that `tf.map_fn` loses and XLA needs."""
        support, query = (self.steps, count, self.batch_size), (count, self.query_size)
        shapes = [support, support, query, query]
        ends = [self.input_shape, (self.num_outputs,)] * 2
        return Episode(*[tf.ensure_shape(x, a + b) for x, a, b in zip(episode, shapes, ends)])

    def concept_errors(self, outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Returns the query error of each sine, or class: `[..., num_concepts]`."""
        shape = tf.concat([tf.shape(y)[:-2], [self.num_concepts, -1, self.num_outputs]], 0)
        return self.error(tf.reshape(outputs, shape), tf.reshape(y, shape))

    def longer(self, scale: int) -> "Task":
        """Returns the task with lifetimes of `scale` times as many steps (paper, section 8.2).

        Raises:
            ValueError: if lifetimes of this task have a fixed length.
        """
        if scale == 1:
            return self
        raise ValueError(f"--eval_lifetime_scale={scale} does not go with this task; the legal value is 1")

    def picture(self, learner, seed: int):
        """Returns a matplotlib figure of one validation episode, before and after it.

        Args:
            learner: the learner.
            seed: of the run.
        """
        raise TypeError(f"{type(self).__name__} does not define picture(learner, seed)")
