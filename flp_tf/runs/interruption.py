"""Signals that ask a process to end: it finishes the step, saves, and then ends."""

import signal
import threading

# From Ctrl-C, `kill`, a closed terminal, and batch systems before the time limit.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))


class Interrupted(Exception):
    """A signal ended meta-training early; a checkpoint was saved.

    Attributes:
        signal: number of the signal.
        episodes: lifetimes done.
    """

    def __init__(self, signal: int, episodes: int):
        super().__init__(signal, episodes)
        self.signal, self.episodes = signal, episodes


class Stopped(Exception):
    """The caller of `meta_train` ended meta-training after an evaluation; a checkpoint was saved.

    Attributes:
        episodes: lifetimes done.
    """

    def __init__(self, episodes: int):
        super().__init__(episodes)
        self.episodes = episodes


class Interruption:
    """A context in which the first of `SIGNALS` is only recorded.

    A second signal is handled as usual, for users who cannot wait. Outside of the main
    thread, where Python cannot handle signals, they are not handled here. The same holds for a
    SIGHUP that the process ignores (`nohup`).

    Attributes:
        signal: number of the signal that came, or None.
    """

    def __enter__(self) -> "Interruption":
        self.signal: int | None = None
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in SIGNALS}
            # None is a handler that is not Python's, and could not be restored.
            self._before = {
                number: handler
                for number, handler in before.items()
                if handler is not None and not (handler == signal.SIG_IGN and number != signal.SIGINT)
            }
            for number in self._before:
                signal.signal(number, self._catch)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _catch(self, number: int, frame: object) -> None:
        del frame
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
