"""Processes that a tool starts: each has its share of the cores, and a signal that ends the tool also ends them."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

# From a terminal that is closed and from a cluster. Ctrl-C reaches all processes of a terminal directly.
SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Ended(KeyboardInterrupt):
    """One of `SIGNALS` came.

    Attributes:
        status: exit status of the process.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.status = 128 + number


def check_handed_over(tool: str, arguments: Sequence[str]) -> None:
    """Exits with a one-line message unless `--flags`, which go to every run, are all flags."""
    if wrong := [argument for argument in arguments if not argument.startswith("-")]:
        sys.exit(
            f"{tool}: --flags: {wrong[0]} is not a flag; a flag with commas stands in quotes, "
            """--flags='"--curriculum=10:5,20:5",--seed=1'"""
        )


def core_shares(jobs: int) -> list[list[int]]:
    """Returns the cores of each of `jobs` processes that run side by side.

    If there are more processes than cores, the additional processes have all cores. If the system cannot
    pin a process, the shares are empty.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return [cores[job::jobs] or cores for job in range(jobs)]


def pin(process: subprocess.Popen, cores: list[int]) -> None:
    """Keeps a process on its cores, if it has a share; to be called at the start, before TensorFlow counts them."""
    if cores:
        os.sched_setaffinity(process.pid, cores)


@contextlib.contextmanager
def ended_together(processes: Sequence[subprocess.Popen]) -> Iterator[None]:
    """A context in which each of `SIGNALS` is passed on to these processes as SIGTERM.

    Args:
        processes: the processes started so far; more may be added within the context.

    Raises:
        Ended: after such a signal; the processes may need some time to save and end.
    """

    def end(number: int, _: object) -> None:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        raise Ended(number)

    # A signal that is ignored, as under nohup, stays ignored.
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
