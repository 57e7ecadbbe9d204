"""Keeping what native libraries print from the screen."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """A context in which nothing that is written to file descriptor 2 shows.

    TensorFlow's libraries write there whatever the log level. Exceptions show as ever:
    Python prints them, and later.
    """
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
