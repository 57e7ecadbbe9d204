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
# Value of `--decay_group` for the rates of all weights.
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

    def recounted(self, count: Callable[[int], int]) -> "Schedule":
        """Returns the schedule with all its counts converted, such as from lifetimes to updates.

        Args:
            count: returns the converted count.
        """
        del count
        return self

    def check(self, groups: Iterable[str]) -> None:  # noqa: B027 (most go with all groups)
        """Raises InputError if the schedule does not go with the groups that have weights."""

    @abc.abstractmethod
    def course(self, group: str, rate: float, updates: int) -> Course:
        """Returns the course of a rate, as a function of the number of the update.

        Args:
            group: the weights that have the rate, one of `component.GROUPS`.
            rate: the rate at the start.
            updates: of the whole run.
        """


@SCHEDULES.register("constant")
class Constant(Schedule):
    """Rates that stay as they are."""

    def course(self, group: str, rate: float, updates: int) -> Course:
        """Returns the rate's course; see `Schedule.course`."""
        del group
        # Keras would turn a plain number into a variable, which checkpoints do not have.
        return keras.optimizers.schedules.CosineDecay(rate, max(updates, 1), alpha=1.0)


@SCHEDULES.register("cosine")
class Cosine(Schedule):
    """Rates that fall to 1 % over the run, along half a period of a cosine."""

    spans_run = True

    def course(self, group: str, rate: float, updates: int) -> Course:
        """Returns the rate's course; see `Schedule.course`."""
        del group
        return keras.optimizers.schedules.CosineDecay(rate, max(updates, 1), alpha=LAST_RATE)


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

    The published code has these milestones and this decay, for the slow weights only. It counts the
    lifetimes of a call, and begins each call with fresh moments of Adam. Here the lifetimes of the run are
    counted, and the moments are kept. Skipped updates do not count.

    Args:
        milestones: in lifetimes; after `recounted`, in updates.
        decay: the factor.
        decay_group: the weights whose rate changes, one of `component.GROUPS` or `"all"`.
    """

    Options = StepsOptions

    def __init__(self, milestones: tuple[int, ...] = MILESTONES, decay: float = DECAY, decay_group: str = ALL):
        self.milestones, self.decay, self.decay_group = milestones, decay, decay_group

    def recounted(self, count: Callable[[int], int]) -> "Steps":
        """Returns the schedule with other milestones; see `Schedule.recounted`."""
        return Steps(tuple(map(count, self.milestones)), self.decay, self.decay_group)

    def check(self, groups: Iterable[str]) -> None:
        """Raises InputError if there are no weights whose rate changes; see `Schedule.check`."""
        if self.decay_group not in (legal := (ALL, *groups)):
            raise InputError(f"--decay_group={self.decay_group} has no weights here; legal values: {', '.join(legal)}")

    def course(self, group: str, rate: float, updates: int) -> Course:
        """Returns the rate's course; see `Schedule.course`."""
        if not self.milestones or self.decay_group not in (ALL, group):
            return Constant().course(group, rate, updates)
        # Keras changes the rate after a boundary.
        boundaries = [update - 1 for update in sorted(self.milestones)]
        values = [rate * self.decay**passed for passed in range(len(boundaries) + 1)]
        return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


class WarmedUp(Course):
    """A rate that rises linearly from 0, then follows its course.

    Args:
        rate: at the end of the warm-up.
        steps: updates of the warm-up.
        course: the course after it, which begins with update 0.
    """

    def __init__(self, rate: float, steps: int, course: Course):
        self.rate, self.steps, self.course = rate, steps, course

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the rate at an update."""
        step = tf.cast(step, tf.float32)
        return tf.where(step < self.steps, self.rate * (step / self.steps), self.course(step - self.steps))
