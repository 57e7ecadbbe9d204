"""Options of the outer loop and of the machine that runs it."""

import dataclasses
import re
from typing import NamedTuple

from flp_tf.component import GROUPS
from flp_tf.errors import InputError
from flp_tf.meta.distribution import DISTRIBUTIONS
from flp_tf.meta.optimizers import OptimizerOptions, with_groups
from flp_tf.registry import option

# A part of a curriculum: length and episodes, each a number or a share in percent.
PART = re.compile(r"([0-9]{1,12})(%?):([0-9]{1,12})(%?)")
# The lengths of all lifetimes are stored, and may be drawn, before the first lifetime.
MOST_EPISODES = 10_000_000


class NonFinite(NamedTuple):
    """What an outer step does if a meta-gradient is not finite, or its loss is too large.

    Attributes:
        counter: name of the counter of such outer steps, in results and TensorBoard.
        applies: whether the update is applied, with zero for the entries that are not finite.
            If so, an outer step counts as lost only if its loss is not finite or too large.
        lost: what is lost, for messages.
    """

    counter: str
    applies: bool
    lost: str


NON_FINITE = {
    "skip": NonFinite("skipped_steps", False, "meta-gradients"),
    "zero": NonFinite("non_finite_steps", True, "losses"),
}


@dataclasses.dataclass(frozen=True)
class OuterOptions(OptimizerOptions):
    """Options of meta-training (paper, section 4.1), without the rates."""

    episodes: int = option(
        20_000, "Lifetimes of meta-training; a larger number goes on.", least=1, most=MOST_EPISODES, extensible=True
    )
    meta_batch: int = option(1, "Lifetimes of one outer step.", least=1)
    curriculum: str = option(
        "",
        "Shorter lifetimes at first, as LENGTH:EPISODES,..., such as 40:2000,100:4000; 25%:40% are 25 % of --lifetime "
        "for 40 % of --episodes.",
    )
    average: float = option(
        0.0,
        "Decay of a running mean of the weights over outer steps, which is what is evaluated and exported, such as "
        "0.99; 0 takes the last weights.",
        least=0,
        most=0.99999,
    )
    lifetimes: tuple[int, ...] = option(
        (),
        "Lengths, of which each outer step draws one, such as 40,100,200,400; --lifetime for tests.",
        least=1,
        excludes="curriculum",
    )
    non_finite: str = option(
        "skip",
        "What happens to a meta-gradient that is not finite: the update is skipped, or, as published, taken with zero "
        "for what is not finite.",
        legal=NON_FINITE,
    )
    max_skipped: int = option(
        20,
        "Stop after this many outer steps in a row with a skipped update, or, where none is, with a loss that is not "
        "finite.",
        incidental=True,
        least=1,
    )


# The same with a rate and an optimizer for each group.
OuterLoop = with_groups(OuterOptions, GROUPS)


@dataclasses.dataclass(frozen=True)
class Engine:
    """Options of how lifetimes are computed; what is learned does not depend on them."""

    jit_compile: bool = option(True, "Compile lifetimes with XLA.", incidental=True)
    distribution: str = option("none", "Devices that share a meta-batch.", legal=DISTRIBUTIONS, incidental=True)


class Phase(NamedTuple):
    """A part of the curriculum.

    Attributes:
        start: its first episode.
        steps: inner steps of its lifetimes; 0 if `percent` gives the length.
        percent: length of its lifetimes, in percent of the task's own lifetimes.
    """

    start: int
    steps: int
    percent: int = 0

    def length(self, full: int) -> int:
        """Returns the inner steps of its lifetimes, for a task whose lifetimes have `full`."""
        return self.steps or max(full * self.percent // 100, 1)


def phases(outer: OuterOptions) -> list[Phase]:
    """Returns the parts of the curriculum; the last has the task's own lifetimes.

    Raises:
        InputError: if `--curriculum` cannot be read.
    """
    found, start = [], 0
    for part in filter(None, outer.curriculum.split(",")):
        match = PART.fullmatch(part)
        if not match or not int(match[1]) or not int(match[3]):
            raise InputError(
                f"--curriculum={outer.curriculum} cannot be read; legal is LENGTH:EPISODES,..., such as 40:2000 or "
                "25%:40%"
            )
        length, of_full, episodes, of_all = int(match[1]), match[2], int(match[3]), match[4]
        found.append(Phase(start, 0, length) if of_full else Phase(start, length))
        # Only whole outer steps.
        start += outer.episodes * episodes // 100 // outer.meta_batch * outer.meta_batch if of_all else episodes
    return [*found, Phase(start, 0, 100)]
