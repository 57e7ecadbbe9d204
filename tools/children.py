"""Processes that a tool starts: each has its share of the cores, and a signal that ends the tool ends them, too."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

# What a terminal that closes and a cluster send. Ctrl-C reaches all processes of a terminal without help.
SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Ended(KeyboardInterrupt):
    """Raised by one of `SIGNALS`.

    Attributes:
        status: of the process's exit.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.status = 128 + number


def check_handed_over(tool: str, arguments: Sequence[str]) -> None:
    """Exits with one line unless all that `--flags` hands to every run are flags."""
    if wrong := [argument for argument in arguments if not argument.startswith("-")]:
        sys.exit(
            f"{tool}: --flags: {wrong[0]} is not a flag; a flag with commas stands in quotes, "
            """--flags='"--curriculum=10:5,20:5",--seed=1'"""
        )


def core_shares(jobs: int) -> list[list[int]]:
    """Returns the cores of each of `jobs` processes that run side by side.

    Where there are more processes than cores, those beyond have all of them. Where the system cannot
    pin a process, the shares are empty.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return [cores[job::jobs] or cores for job in range(jobs)]


def pin(process: subprocess.Popen, cores: list[int]) -> None:
    """Keeps a process on its cores, if it has a share; to be called before TensorFlow counts them, at the start."""
    if cores:
        os.sched_setaffinity(process.pid, cores)


@contextlib.contextmanager
def ended_together(processes: Sequence[subprocess.Popen]) -> Iterator[None]:
    """A context in which each of `SIGNALS` is passed on to these processes as SIGTERM.

    Args:
        processes: those that have been started; more may be added within the context.

    Raises:
        Ended: after such a signal; the processes may take a while to save and leave.
    """

    def end(number: int, _: object) -> None:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        raise Ended(number)

    # One that is ignored, as under nohup, stays ignored.
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
