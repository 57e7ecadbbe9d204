"""The contract of a task, and the structure of an episode."""

import abc
import copy
import functools
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import matplotlib.figure
import numpy as np
import tensorflow as tf

from flp_tf import losses
from flp_tf.errors import InputError
from flp_tf.tasks.checks import check_attributes, check_lifetime, check_size

# Meta-training, selection among runs, and the final meta-test draw from disjoint sets of
# sines or classes.
SPLITS = ("train", "validation", "test")
# What a task computes from its attributes and keeps; copies of the task compute it anew.
KEPT = ("compiled_sample", "_checked")


class Episode(NamedTuple):
    """The data of a meta-batch of lifetimes. Support data are time-major.

    Attributes:
        support_x: examples of the inner steps `[steps, lifetimes, batch, *input_shape]`.
        support_y: their targets `[steps, lifetimes, batch, outputs]`.
        query_x: unseen examples of the same episode `[lifetimes, examples, *input_shape]`.
            Those of one sine (or class) stand next to each other, in `num_concepts` parts
            of equal size.
        query_y: their targets `[lifetimes, examples, outputs]`.
        seed: stateless seed of each lifetime, int32 `[lifetimes, 2]`. Everything that is
            drawn inside a lifetime comes from it. None if nothing is drawn.
    """

    support_x: tf.Tensor
    support_y: tf.Tensor
    query_x: tf.Tensor
    query_y: tf.Tensor
    seed: tf.Tensor | None = None

    def lifetime(self, i: int | tf.Tensor) -> "Episode":
        """Returns lifetime `i` as a meta-batch of one."""
        support = [tf.gather(part, [i], axis=1) for part in (self.support_x, self.support_y)]
        query = [tf.gather(part, [i]) for part in (self.query_x, self.query_y)]
        return Episode(*support, *query, None if self.seed is None else tf.gather(self.seed, [i]))


class Signature(NamedTuple):
    """What a learner is made of; a `Task` has the same attributes.

    Attributes:
        input_shape: shape of one example.
        num_outputs: outputs of the network.
        loss: see `Task`.
    """

    input_shape: tuple[int, ...]
    num_outputs: int
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Task(abc.ABC):
    """A family of episodes (paper, section 5). It knows neither methods nor networks.

    A subclass sets the attributes below, on the class or in its constructor, and defines
    `sample_lifetime`. Attributes are checked at the first `sample`, episodes at each.

    Attributes:
        input_shape: shape of one example, a tuple.
        num_outputs: outputs of the network.
        num_concepts: sines, or classes, of an episode; 1 if it has no such parts.
        steps: inner steps of a lifetime.
        batch_size: examples of one inner step.
        query_examples: query examples of an episode, of all concepts together.
        concept: name of what an episode consists of, such as "sine" or "class".
        unit: unit of the error, for tables and axes.
        loss: function `(outputs [..., examples, outputs], y) -> [...]` that meta-training
            minimizes, on the class as a `staticmethod`. The mean squared error by default.
        error: function of the same kind for tables and figures; it need not be
            differentiable. The mean squared error by default.
        fingerprint: tells the data that the task reads from those that another folder may
            have; empty if it reads none. A run goes on with the same data alone.
        Options: the frozen dataclass of the task's flags, if it has any (see
            `flp_tf.registry`). Its fields are arguments of the constructor.
        signature: optional, a class method that returns the `Signature` of tasks with such
            options without reading data, so that a network can be exported where there are none.

    Example:
        Straight lines through the origin, whose slope a lifetime of 20 steps has to find:

            import tensorflow as tf
            from flp_tf.tasks import SPLITS, TASKS, Episode, Task

            @TASKS.register("lines")
            class Lines(Task):
                input_shape = (1,)
                num_outputs = 1
                num_concepts = 1
                steps = 20
                batch_size = 4
                query_examples = 16
                concept = "line"

                def sample_lifetime(self, seed, split):
                    seeds = tf.random.split(seed, len(SPLITS))
                    slope, x, query_x = tf.unstack(tf.random.split(seeds[SPLITS.index(split)], 3))
                    slope = tf.random.stateless_uniform([], slope, -2.0, 2.0)
                    x = tf.random.stateless_normal([self.steps, self.batch_size, 1], x)
                    query_x = tf.random.stateless_normal([self.query_examples, 1], query_x)
                    return Episode(x, slope * x, query_x, slope * query_x)
    """

    input_shape: tuple[int, ...]
    num_outputs: int
    num_concepts: int
    steps: int
    batch_size: int
    query_examples: int
    concept: str = "concept"
    unit: str = "MSE"
    fingerprint: str = ""
    loss: ClassVar[Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = staticmethod(losses.mean_squared_error)
    error: ClassVar[Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = staticmethod(losses.mean_squared_error)

    @abc.abstractmethod
    def sample_lifetime(self, seed: tf.Tensor, split: str) -> Episode:
        """Draws the data of one lifetime, inside a TensorFlow graph.

        Args:
            seed: stateless seed, int32 `[2]`. The same seed gives the same lifetime.
            split: one of `SPLITS`.

        Returns:
            An `Episode` of float32 tensors without the axis of lifetimes: `support_x
            [steps, batch_size, *input_shape]`, `support_y [steps, batch_size, num_outputs]`,
            `query_x [query_examples, *input_shape]`, `query_y [query_examples,
            num_outputs]`. Its `seed` is not used.
        """

    def sample(self, seed: int | tf.Tensor, index: int | tf.Tensor, count: int, split: str) -> Episode:
        """Draws lifetimes `index, ..., index + count - 1` of a split.

        A lifetime depends on its own number alone, so the data are the same however
        they are divided into meta-batches, replicas or interrupted runs.

        Args:
            seed: seed of the run, 0 to 2^31 - 1.
            index: number of the first lifetime.
            count: how many.
            split: one of `SPLITS`.

        Raises:
            InputError: if there is no such split, or the lifetimes are too large to be drawn.
            ContractError: if an attribute of the task, or a tensor that `sample_lifetime`
                returns, is missing, or has another type, value or shape than declared.
        """
        if split not in SPLITS:
            raise InputError(f"split={split!r} is unknown; legal values: {', '.join(SPLITS)}")
        if count < 1:
            raise InputError(f"count={count} is too small; legal values are 1 or more")
        self.check()
        check_size(self, count)

        seed, index = tf.cast(seed, tf.int32), tf.cast(index, tf.int32)

        # Not converted: autograph would hide the messages of the checks in a traceback of its own.
        @tf.autograph.experimental.do_not_convert
        def draw(i: tf.Tensor) -> Episode:
            drawn = check_lifetime(self, self.sample_lifetime(tf.stack([seed, i]), split))
            return Episode(*drawn, _lifetime_seed(seed, i, split))

        signature = Episode(*[tf.TensorSpec(None, tf.float32)] * 4, tf.TensorSpec([2], tf.int32))
        lifetimes = tf.map_fn(draw, tf.range(count, dtype=tf.int32) + index, fn_output_signature=signature)
        time_major = [tf.einsum("mt...->tm...", part) for part in lifetimes[:2]]
        return self._with_static_shapes(Episode(*time_major, *lifetimes[2:]), count)

    def check(self) -> None:
        """Checks the attributes, once.

        Raises:
            ContractError: if one is missing, or has another type or value than declared.
        """
        if "_checked" not in vars(self):
            check_attributes(self)
            vars(self)["_checked"] = True

    @functools.cached_property
    def compiled_sample(self) -> Callable[..., Episode]:
        """`sample` as a compiled function, for callers outside of a graph."""
        # TensorFlow warns of a function that it compiles often; a partial one is always another.
        compiled = tf.function(functools.partial(self.sample), autograph=False)

        def sample(seed: int | tf.Tensor, index: int | tf.Tensor, count: int, split: str) -> Episode:
            # As tensors, so that other numbers do not compile again.
            return compiled(tf.cast(seed, tf.int32), tf.cast(index, tf.int32), count, split)

        return sample

    def _with_static_shapes(self, episode: Episode, count: int) -> Episode:
        """Restores the static shapes that `tf.map_fn` loses and XLA needs."""
        support, query = (self.steps, count, self.batch_size), (count, self.query_examples)
        starts = [support, support, query, query]
        ends = [tuple(self.input_shape), (self.num_outputs,)] * 2
        data = [tf.ensure_shape(x, start + end) for x, start, end in zip(episode[:4], starts, ends)]
        return Episode(*data, tf.ensure_shape(episode.seed, (count, 2)))

    def concept_errors(self, outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Returns the query error of each sine, or class.

        Args:
            outputs: of the network for the query `[..., query_examples, num_outputs]`.
            y: targets of the same shape.

        Returns:
            `[..., num_concepts]`.
        """
        shape = tf.concat([tf.shape(y)[:-2], [self.num_concepts, -1, self.num_outputs]], 0)
        return self.error(tf.reshape(outputs, shape), tf.reshape(y, shape))

    def with_lifetime(self, steps: int) -> "Task":
        """Returns the task with lifetimes of `steps` inner steps (paper, section 8.2).

        The only way to change the length of a lifetime. A task whose lifetimes may have
        other lengths overrides it.

        Raises:
            InputError: if lifetimes of this task cannot have this length.
        """
        if steps == self.steps:
            return self
        raise InputError(
            f"--lifetime={steps} does not go with {type(self).__name__}, whose lifetimes have a fixed length; "
            f"the legal value is {self.steps}"
        )

    def _of_length(self, steps: int) -> "Task":
        """Returns a copy with another `steps`: all else that a subclass keeps stays as it is."""
        if steps == self.steps:
            return self
        twin = copy.copy(self)
        twin.steps = steps
        return twin

    def draw(self, episode: Episode, before: np.ndarray, after: np.ndarray) -> matplotlib.figure.Figure | None:
        """Draws an episode and what the network answers. Optional: None, if a task has no picture.

        Args:
            episode: of which the first lifetime is drawn.
            before: outputs for the query before the lifetime `[lifetimes, query_examples,
                num_outputs]`.
            after: the same after the lifetime.
        """
        return None

    def __getstate__(self) -> dict[str, object]:
        """Returns the attributes that a copy, or a pickled task, takes over."""
        return {name: value for name, value in vars(self).items() if name not in KEPT}


def _lifetime_seed(seed: tf.Tensor, i: tf.Tensor, split: str) -> tf.Tensor:
    """Returns the seed of what is drawn inside lifetime `i` of a split, int32 `[2]`.

    The data of the lifetime are drawn from `[seed, i]`, both at least 0. The seed here
    comes from `[seed, -1 - i]`, which no data are drawn from.
    """
    # The algorithm is named because the default one depends on the device.
    seeds = tf.random.split(tf.stack([seed, -1 - i]), len(SPLITS), alg="philox")
    return seeds[SPLITS.index(split)]
