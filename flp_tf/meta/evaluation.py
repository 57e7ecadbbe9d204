"""Meta-test: how well a meta-learned network learns unseen episodes."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from flp_tf import lifetime
from flp_tf.learners.base import Learner
from flp_tf.statistics import standard_error
from flp_tf.tasks.base import Episode, Task

# Number of lifetimes that run side by side; results do not depend on it.
LIFETIMES_AT_ONCE = 10


class Evaluation(NamedTuple):
    """Query errors of a number of lifetimes, in the task's unit.

    Attributes:
        errors: after each lifetime `[episodes]`.
        before: before any inner step `[episodes]`.
        concepts: after each lifetime, by sine or class in the order in which a
            continual lifetime meets them `[episodes, concepts]`.
        outputs: for the query, after each lifetime `[episodes, query_examples, outputs]`.
        outputs_before: the same before any inner step.
    """

    errors: np.ndarray
    before: np.ndarray
    concepts: np.ndarray
    outputs: np.ndarray
    outputs_before: np.ndarray

    def meta_test(self) -> dict[str, Any]:
        """Returns `{mean, stderr, episodes}`; the standard error is over lifetimes."""
        return {**_statistics(self.errors), "episodes": len(self.errors)}

    def to_dict(self, concept: str) -> dict[str, Any]:
        """Returns the evaluation in the form that `result.json` has."""
        by_concept = [_statistics(errors) for errors in self.concepts.T]
        return {
            "meta_test": self.meta_test(),
            "before_lifetime": _statistics(self.before),
            f"per_{concept}": by_concept,
        }


def _statistics(errors: np.ndarray) -> dict[str, float]:
    # JSON has no NaN.
    stderr = float(standard_error(errors)) if len(errors) > 1 else 0.0
    return {"mean": float(np.mean(errors)), "stderr": stderr}


def lifetimes_at_once(episodes: int) -> int:
    """Returns how many of `episodes` lifetimes run side by side: a divisor of `episodes`."""
    return math.gcd(episodes, LIFETIMES_AT_ONCE)


def over_lifetimes(function: Callable[[Episode], Any], task: Task, seed: int, episodes: int, split: str) -> Any:
    """Applies a compiled function to lifetimes `0, ..., episodes - 1` of a split.

    Args:
        function: maps an `Episode` of several lifetimes to a structure of tensors
            `[lifetimes, ...]`.
        task: gives the episodes.
        seed: of the episodes. A different seed does not cause another compilation.
        episodes: number of lifetimes.
        split: the split that they are drawn from.

    Returns:
        The structure with arrays `[episodes, ...]`.
    """
    count, seed = lifetimes_at_once(episodes), tf.constant(seed, tf.int32)
    parts = [function(task.compiled_sample(seed, tf.constant(i), count, split)) for i in range(0, episodes, count)]
    return tf.nest.map_structure(lambda *tensors: np.concatenate([tensor.numpy() for tensor in tensors]), *parts)


class Evaluator:
    """Runs lifetimes of unseen data without meta-learning, compiled once.

    Args:
        learner: the learner.
        task: gives the episodes and their errors.
        jit_compile: whether XLA compiles the lifetimes.
    """

    def __init__(self, learner: Learner, task: Task, jit_compile: bool = True):
        self.learner, self.task = learner, task
        # Without a function of its own for each evaluator, TensorFlow takes all of them for
        # one function that it compiles too often, and warns.
        evaluate = functools.partial(_evaluate, learner, task)
        self._lifetimes = tf.function(evaluate, autograph=False, jit_compile=jit_compile)

    def __call__(self, seed: int, episodes: int, split: str = "test") -> Evaluation:
        """Evaluates lifetimes `0, ..., episodes - 1` of a split."""
        return Evaluation(*over_lifetimes(self._lifetimes, self.task, seed, episodes, split))


def _evaluate(learner: Learner, task: Task, episode: Episode) -> tuple[tf.Tensor, ...]:
    """Returns the fields of `Evaluation` for a meta-batch."""
    state = learner.initial_state(episode.seed)
    before = lifetime.query(learner, state, episode)
    # No gradient is taken, so no states have to be kept for one.
    state = lifetime.run(learner, episode, state=state, segment_length=lifetime.PLAIN).state
    after = lifetime.query(learner, state, episode)
    y = episode.query_y
    return task.error(after, y), task.error(before, y), task.concept_errors(after, y), after, before
