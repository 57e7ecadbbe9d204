"""Ctrl-C and SIGTERM: finish the step, save, leave."""

import signal


class Interruption:
    """A context in which the first SIGINT or SIGTERM only raises a flag.

    A second one is handled as usual, for whoever cannot wait.

    Attributes:
        signal: number of the signal that came, or None.
    """

    def __enter__(self) -> "Interruption":
        self.signal = None
        self._before = {number: signal.signal(number, self._catch) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception) -> None:
        self._restore()

    def _catch(self, number, frame) -> None:
        del frame
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
