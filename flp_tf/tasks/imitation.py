"""Imitation of a learning algorithm (paper, section 4.2): how much a lifetime can compute."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import matplotlib.figure
import numpy as np
import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.memory import memory
from flp_tf.registry import check, option
from flp_tf.tasks.base import SPLITS, Episode, Task

Algorithm = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, float], tf.Tensor]

# Waves that a function of the data is a sum of.
WAVES = 6
# Ridge regression takes a time that grows with the third power: minutes for one lifetime of more.
MOST_DIMENSIONS = 10_000


def ridge(x: tf.Tensor, y: tf.Tensor, query: tf.Tensor, strength: float) -> tf.Tensor:
    """Returns what ridge regression with an intercept answers, `[q, 1] (X^T X + strength I)^-1 X^T y`."""
    x, query = (tf.concat([part, tf.ones_like(part[:, :1])], -1) for part in (x, query))
    gram = tf.matmul(x, x, transpose_a=True) + strength * tf.eye(x.shape[-1], dtype=x.dtype)
    return tf.matmul(query, tf.linalg.solve(gram, tf.matmul(x, y, transpose_a=True)))


def nearest(x: tf.Tensor, y: tf.Tensor, query: tf.Tensor, strength: float) -> tf.Tensor:
    """Returns the target of the nearest example; `strength` is not used."""
    del strength
    return tf.gather(y, tf.argmin(_squared_distances(query, x), -1))


def kernel(x: tf.Tensor, y: tf.Tensor, query: tf.Tensor, strength: float) -> tf.Tensor:
    """Returns the mean of the targets weighted by `exp(-d^2 / (2 strength^2))` (Nadaraya and Watson)."""
    return tf.matmul(tf.nn.softmax(-_squared_distances(query, x) / (2 * strength**2)), y)


def _squared_distances(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum((one[:, None] - other) ** 2, -1)


ALGORITHMS: dict[str, Algorithm] = {"ridge": ridge, "nearest": nearest, "kernel": kernel}
# The size of the largest matrix, from dimensions, support examples and query examples.
NEEDED: dict[str, Callable[[int, int, int], tuple[int, int]]] = {
    "ridge": lambda dimensions, support, query: (dimensions + 1, dimensions + 1),
    "nearest": lambda dimensions, support, query: (query * support, dimensions),
    "kernel": lambda dimensions, support, query: (query * support, dimensions),
}


@dataclasses.dataclass(frozen=True)
class ImitationOptions:
    """Options of `Imitation`."""

    algorithm: str = option("ridge", "Learning algorithm whose answers are the targets.", legal=ALGORITHMS)
    strength: float = option(0.3, "Penalty of ridge regression; width of the kernel smoother.", least=1e-3)
    dimensions: int = option(2, "Entries of an input.", least=1, most=MOST_DIMENSIONS)
    noise: float = option(0.1, "Standard deviation of the noise in what the network is shown.", least=0)
    lifetime: int = option(40, "Inner steps of a lifetime.", least=1)
    batch_size: int = option(1, "Examples of an inner step.", least=1)
    query_size: int = option(64, "Query examples.", least=1)


class Imitation(Task):
    """Regression whose query targets are what a learning algorithm answers after the same data.

    Support data are `y = f(x) + noise`, with `x ~ U[-1, 1]^dimensions` and a random function
    `f(x) = sum over k of a_k cos(w_k x + b_k)`. The query targets are not `f`, but the answers
    of the algorithm that was given all support data. A network without error computes the
    algorithm within its lifetime (paper, section 4.2).

    Args:
        **options: the fields of `ImitationOptions`.

    Raises:
        InputError: if an option is out of range.
    """

    Options = ImitationOptions
    concept: ClassVar = "function"
    num_concepts = 1
    num_outputs = 1

    def __init__(self, **options: object):
        self.options = ImitationOptions(**options)
        check(self.options)
        if self.options.algorithm == "nearest" and self.options.strength != ImitationOptions.strength:
            raise InputError(
                f"--strength={self.options.strength:g} does not go with --algorithm=nearest; it goes with ridge, kernel"
            )
        self.input_shape = (self.options.dimensions,)
        self.steps = self.options.lifetime
        self.batch_size = self.options.batch_size
        self.query_examples = self.options.query_size
        self._check_memory(self.steps)

    def with_lifetime(self, steps: int) -> "Imitation":
        """Returns the same task with lifetimes of `steps` inner steps, as many as the algorithm has memory for."""
        check(dataclasses.replace(self.options, lifetime=steps))
        self._check_memory(steps)
        return self._of_length(steps)

    def _check_memory(self, steps: int) -> None:
        """Raises InputError if the algorithm needs more memory for a lifetime than this machine has."""
        options = self.options
        rows, columns = NEEDED[options.algorithm](options.dimensions, steps * options.batch_size, options.query_size)
        if (needed := rows * columns * tf.float32.size) > memory():
            raise InputError(
                f"--algorithm={options.algorithm} needs {needed / 1e9:.3g} GB for {options.dimensions} dimensions, "
                f"{steps} steps of {options.batch_size} examples and {options.query_size} query examples; this machine "
                f"has {memory() / 1e9:.3g} GB: lower --dimensions, --lifetime, --batch_size or --query_size"
            )

    def sample_lifetime(self, seed: tf.Tensor, split: str) -> Episode:
        """Draws a function and its data; see `Task.sample_lifetime`."""
        of_split = tf.random.split(seed, len(SPLITS), alg="philox")[SPLITS.index(split)]
        seeds = tf.unstack(tf.random.split(of_split, 4, alg="philox"))
        size = self.steps * self.batch_size
        x = tf.random.stateless_uniform([size + self.query_examples, *self.input_shape], seeds[0], -1.0, 1.0)
        noise = tf.random.stateless_normal([size, 1], seeds[1], stddev=self.options.noise)
        clean = self._function(x, seeds[2], seeds[3])
        x, query_x = x[:size], x[size:]
        y = clean[:size] + noise
        query_y = ALGORITHMS[self.options.algorithm](x, y, query_x, self.options.strength)
        support = [tf.reshape(part, [self.steps, self.batch_size, part.shape[-1]]) for part in (x, y)]
        return Episode(*support, query_x, query_y)

    def _function(self, x: tf.Tensor, of_waves: tf.Tensor, of_sums: tf.Tensor) -> tf.Tensor:
        """Returns a random function of `x [n, dimensions]`, `[n, 1]`, of variance 1."""
        directions = tf.random.stateless_normal([x.shape[-1], WAVES], of_waves, stddev=2.0)
        seeds = tf.unstack(tf.random.split(of_sums, 2, alg="philox"))
        phases = tf.random.stateless_uniform([WAVES], seeds[0], 0.0, 2 * np.pi)
        sizes = tf.random.stateless_normal([WAVES, 1], seeds[1], stddev=(2 / WAVES) ** 0.5)
        return tf.matmul(tf.cos(tf.matmul(x, directions) + phases), sizes)

    def draw(self, episode: Episode, before: np.ndarray, after: np.ndarray) -> matplotlib.figure.Figure:
        """Draws the network's answers over the algorithm's, before and after the lifetime."""
        figure = matplotlib.figure.Figure(figsize=(4, 4), layout="constrained")
        axis, target = figure.subplots(), np.asarray(episode.query_y)[0, :, 0]
        for outputs, label, color in ((before, "before", "tab:orange"), (after, "after", "tab:blue")):
            axis.plot(target, outputs[0, :, 0], ".", color=color, label=f"{label} the lifetime")
        limits = [np.min(target), np.max(target)]
        axis.plot(limits, limits, color="0.6")
        axis.set_ylim(limits[0] - 1, limits[1] + 1)
        axis.set_xlabel(f"answer of {self.options.algorithm}")
        axis.set_ylabel("answer of the network")
        axis.legend(fontsize=9)
        return figure
