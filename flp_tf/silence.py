"""The screen: where it can be written to, and what native libraries print."""

import contextlib
import os
import sys
from collections.abc import Iterator


def make_writable() -> None:
    """Makes stdout and stderr take whatever a command says.

    Characters that the screen's encoding lacks are written as escapes of Python. A closed stream
    shows nothing: without a file of its own, the next file that is opened would have its
    number, and get what native libraries print.
    """
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(descriptor, "w", closefd=False))
        getattr(sys, name).reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """A context in which nothing that is written to file descriptor 2 shows.

    TensorFlow's libraries write there whatever the log level. Exceptions show as ever:
    Python prints them, and later. Where the descriptor is closed, nothing shows anyhow.
    """
    try:
        stderr = os.dup(2)
    except OSError:
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
