"""What processes leave in a run's folder while they write, and a lock that never outlives its process."""

import contextlib
import json
import os
import shutil
import socket
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from flp_tf.errors import InputError
from flp_tf.files import PARTIAL, whole

try:
    import fcntl
except ImportError:  # Not a POSIX system: there are no locks.
    fcntl = None

__all__ = ["LOCK", "locked", "remove_partial", "whole"]

LOCK = ".lock"


def remove_partial(folder: Path, names: Collection[str] | None = None) -> None:
    """Removes what killed processes left of the files and folders that they were writing.

    Args:
        folder: whose lock is held; it need not exist.
        names: of the files and folders; all by default.
    """
    for path in folder.glob(".*.partial"):
        match = PARTIAL.fullmatch(path.name)
        if not match or (names is not None and match[1] not in names):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path, name: str = LOCK) -> Iterator[None]:
    """A context in which this process alone holds a folder, or something in it.

    The lock is one of the operating system's on the file `.lock`. It is released when the
    process ends, however it ends. On file systems without locks there is none.

    Args:
        folder: an existing folder.
        name: of the lock's file; another one locks a part of the folder.

    Raises:
        InputError: naming the process that holds the folder.
    """
    descriptor = _acquire(folder / name)
    try:
        yield
    finally:
        if descriptor is not None:
            # No process waits for this file: see `_acquire`.
            (folder / name).unlink(missing_ok=True)
            os.close(descriptor)


def _acquire(path: Path) -> int | None:
    """Returns the descriptor of the locked file, None where there are no locks."""
    if fcntl is None:
        return None
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise InputError(f"{path} cannot be opened to lock the folder: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise InputError(f"{path.parent} is in use by {holder}; wait for it, or name another folder") from None
        except OSError:
            os.close(descriptor)
            return None
        opened = os.fstat(descriptor)
        if not stat.S_ISREG(opened.st_mode) or opened.st_nlink > 1:
            os.close(descriptor)
            raise InputError(f"{path} is not a lock file of flp_tf; remove it")
        # Whoever held the lock until now removed the file: then another one has its name.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(opened, os.stat(path, follow_symlinks=False)):
                os.truncate(descriptor, 0)
                os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
                return descriptor
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    """Returns "process PID on HOST", as the holder of a lock wrote it."""
    try:
        content = json.loads(os.pread(descriptor, 1000, 0))
        return f"process {content['pid']} on {content['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
