"""Options of the outer loop and of the machine that runs it."""

import dataclasses
from typing import NamedTuple

from flp_tf.errors import InputError
from flp_tf.meta.distribution import DISTRIBUTIONS
from flp_tf.meta.optimizers import OptimizerOptions
from flp_tf.registry import option


@dataclasses.dataclass(frozen=True)
class OuterLoop(OptimizerOptions):
    """Options of meta-training (paper, section 4.1)."""

    episodes: int = option(20_000, "Lifetimes of meta-training; a larger number goes on.", least=1, extensible=True)
    meta_batch: int = option(1, "Lifetimes of one outer step.", least=1)
    curriculum: str = option("", "Shorter lifetimes at first, as LENGTH:EPISODES,..., such as 40:2000,100:4000.")
    average: float = option(
        0.0,
        "Decay of a running mean of the weights over outer steps, which is what is evaluated and exported, such as "
        "0.99; 0 takes the last weights.",
        least=0,
        most=0.99999,
    )
    lifetimes: tuple[int, ...] = option(
        (), "Lengths, of which each outer step draws one, such as 40,100,200,400; --lifetime for tests.", least=1
    )
    max_skipped: int = option(20, "Stop after this many non-finite meta-gradients in a row.", incidental=True, least=1)


@dataclasses.dataclass(frozen=True)
class Engine:
    """Options of how lifetimes are computed; what is learned does not depend on them."""

    jit_compile: bool = option(True, "Compile lifetimes with XLA.", incidental=True)
    distribution: str = option("none", "Devices that share a meta-batch.", legal=DISTRIBUTIONS, incidental=True)


class Phase(NamedTuple):
    """A part of the curriculum.

    Attributes:
        start: its first episode.
        steps: inner steps of its lifetimes; 0 for those of the task.
    """

    start: int
    steps: int


def phases(outer: OuterLoop) -> list[Phase]:
    """Returns the parts of the curriculum; the last has the task's own lifetimes.

    Raises:
        InputError: if `--curriculum` cannot be read, or does not go with `--lifetimes`.
    """
    if outer.curriculum and outer.lifetimes:
        raise InputError(
            f"--curriculum={outer.curriculum} does not go with --lifetimes={','.join(map(str, outer.lifetimes))}; "
            "legal is one of them"
        )
    found, start = [], 0
    for part in filter(None, outer.curriculum.split(",")):
        length, _, episodes = part.partition(":")
        if not (_is_positive(length) and _is_positive(episodes)):
            raise InputError(
                f"--curriculum={outer.curriculum} cannot be read; legal is LENGTH:EPISODES,..., such as 40:2000"
            )
        found.append(Phase(start, int(length)))
        start += int(episodes)
    return [*found, Phase(start, 0)]


def _is_positive(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) > 0
