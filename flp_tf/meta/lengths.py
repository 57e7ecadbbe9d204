"""The length of the lifetimes of every outer step (paper, section 8.2)."""

import contextlib
import random

import numpy as np

from flp_tf.errors import ContractError, InputError
from flp_tf.meta.options import OuterOptions, Phase, phases
from flp_tf.tasks.base import Task


class Lengths:
    """The length of lifetimes by outer step: that of a curriculum's phase, or drawn from a few lengths.

    A drawn length depends only on the seed and the number of the outer step.

    Args:
        task: the task of the lifetimes.
        outer: options of the outer loop.
        steps: number of outer steps.
        seed: of the run.

    Attributes:
        tasks: the task with lifetimes of each length, by length.

    Raises:
        InputError: if a length does not fit the task.
    """

    def __init__(self, task: Task, outer: OuterOptions, steps: int, seed: int):
        if outer.lifetimes:
            lengths = [outer.lifetimes[_draw(seed, step, len(outer.lifetimes))] for step in range(steps)]
            flag, possible = "lifetimes", outer.lifetimes
        else:
            parts = phases(outer)
            starts = [phase.start // outer.meta_batch for phase in parts]
            flag, possible = "curriculum", [_length(task, phase) for phase in parts]
            lengths = np.repeat(possible, np.diff([*np.minimum(starts, steps), steps]))
        self.tasks = {length: _with_lifetime(task, length, flag) for length in possible}
        self._lengths = np.array(lengths, np.int64)

    def task(self, step: int) -> Task:
        """Returns the task of an outer step; for a step after the last, that of the last."""
        return self.tasks[int(self._lengths[min(step, len(self._lengths) - 1)])]

    def ahead(self, step: int) -> list[tuple[int, int]]:
        """Returns `(outer steps, inner steps of a lifetime)` by length from an outer step on, the next one first."""
        return _counted(self._lengths[step:])

    def before(self, step: int) -> list[tuple[int, int]]:
        """Returns the same up to an outer step."""
        return _counted(self._lengths[:step])

    def inner_steps(self, step: int) -> int:
        """Returns the inner steps of all outer steps before an outer step, counting one lifetime for each."""
        return int(self._lengths[:step].sum())


def _counted(lengths: np.ndarray) -> list[tuple[int, int]]:
    """Returns `(count, length)` in the order in which lengths first occur."""
    found, first, counts = np.unique(lengths, return_index=True, return_counts=True)
    return [(int(counts[i]), int(found[i])) for i in np.argsort(first)]


def _length(task: Task, phase: Phase) -> int:
    """Returns the inner steps of a phase's lifetimes.

    A share of the task's lifetime is rounded down to a length that the task can have. If there is no
    such length, it is the whole lifetime.
    """
    if phase.steps:
        return phase.steps
    for length in range(phase.length(task.steps), 0, -1):
        with contextlib.suppress(InputError):
            return task.with_lifetime(length).steps
    return task.steps


def _draw(seed: int, step: int, choices: int) -> int:
    """Returns the index of an outer step's length; Python guarantees the same numbers on every machine."""
    return int(random.Random(f"{seed} {step}").random() * choices)


def _with_lifetime(task: Task, length: int, flag: str) -> Task:
    try:
        found = task.with_lifetime(length)
    except InputError as error:
        raise InputError(f"--{flag} with lifetimes of {length}: {error}") from None
    if found.steps != length:
        raise ContractError(f"{type(task).__name__}.with_lifetime({length}) returned a task of {found.steps} steps")
    return found
