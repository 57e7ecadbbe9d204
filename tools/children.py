"""Processes that a tool starts: a signal that ends the tool ends them, too."""

import contextlib
import signal
import subprocess
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
