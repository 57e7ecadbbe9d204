"""Schedules: the course of the outer rates over meta-training. The paper's are constant (appendix B)."""

import abc
import dataclasses
from collections.abc import Callable, Iterable
from typing import ClassVar

import keras
import tensorflow as tf

from flp_tf.component import GROUPS
from flp_tf.errors import InputError
from flp_tf.registry import Registry, option

Course = keras.optimizers.schedules.LearningRateSchedule
# Rate at the end of a cosine schedule, relative to the rate at its start.
LAST_RATE = 0.01
# Of `--decay_group`: the rates of all weights.
ALL = "all"
# The published step-wise decay.
MILESTONES, DECAY = (1500, 2500, 3500), 0.3

SCHEDULES = Registry("schedule", default="constant", text="Course of the outer rates over the lifetimes.")


class Schedule(abc.ABC):
    """How the rates change in meta-training.

    Attributes:
        spans_run: whether the course depends on how long the whole run is.
    """

    spans_run: ClassVar[bool] = False

    def in_updates(self, count: Callable[[int], int]) -> "Schedule":
        """Returns the schedule with all that it counts in lifetimes counted in updates of the weights.

        Args:
            count: returns the updates before a lifetime, given its number.
        """
        del count
        return self

    def check(self, groups: Iterable[str]) -> None:  # noqa: B027 (most go with all groups)
        """Raises InputError if the schedule does not go with the groups that have weights."""

    @abc.abstractmethod
    def course(self, group: str, rate: float, updates: int, warmup: int = 0) -> Course:
        """Returns the course of a rate by the number of the update, after a linear warm-up from 0.

        Args:
            group: the weights that have the rate, one of `component.GROUPS`.
            rate: the rate after the warm-up.
            updates: of the whole run.
            warmup: updates of the warm-up.
        """


@SCHEDULES.register("constant")
class Constant(Schedule):
    """Rates that stay as they are."""

    def course(self, group: str, rate: float, updates: int, warmup: int = 0) -> Course:
        """Returns the rate's course; see `Schedule.course`."""
        del group
        return _cosine(rate, 1.0, updates, warmup)


@SCHEDULES.register("cosine")
class Cosine(Schedule):
    """Rates that fall to 1 % over the run, along half a period of a cosine."""

    spans_run = True

    def course(self, group: str, rate: float, updates: int, warmup: int = 0) -> Course:
        """Returns the rate's course; see `Schedule.course`."""
        del group
        return _cosine(rate, LAST_RATE, updates, warmup)


@dataclasses.dataclass(frozen=True)
class StepsOptions:
    """Options of `Steps`."""

    milestones: tuple[int, ...] = option(
        MILESTONES, "Lifetimes after each of which rates are multiplied by --decay once more.", least=1
    )
    decay: float = option(DECAY, "Factor of the rates at each of --milestones.", least=0, most=1)
    decay_group: str = option(
        ALL, "Whose rates are multiplied: of all weights, or of one group, such as slow.", legal=(ALL, *GROUPS)
    )


@SCHEDULES.register("steps")
class Steps(Schedule):
    """Rates `rate * decay^k` after `k` of the milestones.

    The published code has milestones 1,500, 2,500, 3,500 and a decay of 0.3, for the slow weights alone.

    Args:
        milestones: lifetimes, or updates where `in_updates` returned the schedule.
        decay: the factor.
        decay_group: the weights whose rate changes, one of `component.GROUPS` or `"all"`.
    """

    Options = StepsOptions

    def __init__(self, milestones: tuple[int, ...] = MILESTONES, decay: float = DECAY, decay_group: str = ALL):
        self.milestones, self.decay, self.decay_group = milestones, decay, decay_group

    def in_updates(self, count: Callable[[int], int]) -> "Steps":
        """Returns the schedule in updates; see `Schedule.in_updates`."""
        return Steps(tuple(map(count, self.milestones)), self.decay, self.decay_group)

    def check(self, groups: Iterable[str]) -> None:
        """Raises InputError if there are no weights whose rate changes; see `Schedule.check`."""
        if self.decay_group not in (legal := (ALL, *groups)):
            raise InputError(f"--decay_group={self.decay_group} has no weights here; legal values: {', '.join(legal)}")

    def course(self, group: str, rate: float, updates: int, warmup: int = 0) -> Course:
        """Returns the rate's course; see `Schedule.course`."""
        if self.decay_group not in (ALL, group):
            return Constant().course(group, rate, updates, warmup)
        return _StepCourse(rate, self.milestones, self.decay, warmup)


class _StepCourse(Course):
    """Keras' `PiecewiseConstantDecay` with a warm-up."""

    def __init__(self, rate: float, milestones: tuple[int, ...], decay: float, warmup: int):
        self.rate, self.milestones, self.decay, self.warmup = rate, milestones, decay, warmup

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.int64)
        passed = tf.reduce_sum(tf.cast(step >= tf.constant(self.milestones, tf.int64), tf.float32))
        warm = tf.minimum(tf.cast(step, tf.float32) / self.warmup, 1.0) if self.warmup else 1.0
        return self.rate * warm * self.decay**passed


def _cosine(rate: float, last: float, updates: int, warmup: int) -> Course:
    """Returns a linear warm-up, then half a period of a cosine to `last * rate`."""
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else rate,
        decay_steps=max(updates - warmup, 1),
        alpha=last,
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )
