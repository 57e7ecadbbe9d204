"""Commands of flp_tf in processes that do not import TensorFlow anew.

A process that has imported the library, but not computed anything with it, forks. The child does
what `python -m flp_tf.main ARGUMENTS` does. This saves the seconds of the import, so that
hundreds of commands can be tried in minutes.
"""

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from absl import logging

from flp_tf import main

# Exit code of a command that exceeds its time limit.
TIMEOUT = -1


class Outcome(NamedTuple):
    """How a command ended.

    Attributes:
        code: its exit status, the negative number of the signal that killed it, or `TIMEOUT`.
        out: its standard output.
        err: its standard error.
        seconds: how long it took, without imports.
    """

    code: int
    out: str
    err: str
    seconds: float


class Child:
    """A command in a process of its own.

    Args:
        arguments: of the command line.
        folder: the working directory.
        environment: variables in addition to those of this process.
        call: what the process calls with the arguments instead of the command.

    Attributes:
        pid: of the process.
        began: time of its start, from `time.monotonic`.
        out: file of its standard output.
        err: file of its standard error.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        call: Callable[[list[str]], object] | None = None,
    ):
        self.began = time.monotonic()
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self.pid = os.fork()
        if not self.pid:
            self._be_the_command(arguments, folder, environment or {}, call or main.main)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal, if the process still exists."""
        os.kill(self.pid, number)

    def wait(self, limit: float) -> Outcome:
        """Waits for the process to end; kills it with SIGKILL after `limit` seconds."""
        code = None
        while code is None:
            if time.monotonic() - self.began > limit:
                self.kill()
                os.waitpid(self.pid, 0)
                code = TIMEOUT
                break
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if pid else time.sleep(0.005)
        texts = []
        for file in (self.out, self.err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            file.close()
        return Outcome(code, *texts, time.monotonic() - self.began)

    def _be_the_command(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        call: Callable[[list[str]], object],
    ) -> NoReturn:
        code = 1
        try:
            os.dup2(self.out.fileno(), 1)
            os.dup2(self.err.fileno(), 2)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
            os.environ.update(environment)
            os.chdir(folder)
            logging.set_verbosity(logging.WARNING)
            call(list(arguments))
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def run(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    limit: float = 60,
    call: Callable[[list[str]], object] | None = None,
) -> Outcome:
    """Runs a command to its end."""
    return Child(arguments, folder, environment, call).wait(limit)
