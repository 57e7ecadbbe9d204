"""Partial files that killed processes leave in a run's folder, and a lock that ends with its process."""

import contextlib
import json
import os
import shutil
import socket
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from flp_tf.errors import InputError
from flp_tf.files import PARTIAL

try:
    import fcntl
except ImportError:  # Not a POSIX system: there are no locks.
    fcntl = None

LOCK = ".lock"


def remove_partial(folder: Path, names: Collection[str] | None = None) -> None:
    """Removes partial files and folders that killed processes left behind.

    Args:
        folder: the folder, whose lock is held; it need not exist.
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
    """A context in which only this process holds a folder, or a part of it.

    The lock is one of the operating system, on the file `.lock`. It is released when the
    process ends, however it ends. On file systems without locks nothing is locked.

    Args:
        folder: an existing folder.
        name: of the lock's file; a different name locks a part of the folder.

    Raises:
        InputError: naming the process that holds the folder.
    """
    descriptor = _acquire(folder / name)
    try:
        yield
    finally:
        if descriptor is not None:
            # No process waits for this file; see `_acquire`.
            if _is_at(folder / name, descriptor):
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
            holder = _holder(descriptor) or "another process"
            os.close(descriptor)
            raise InputError(f"{path.parent} is in use by {holder}; wait for it, or name another folder") from None
        except OSError:
            os.close(descriptor)
            return None
        opened = os.fstat(descriptor)
        is_ours = stat.S_ISREG(opened.st_mode) and opened.st_nlink < 2 and (not opened.st_size or _holder(descriptor))
        # The previous holder of the lock may have removed the file: then another file has its name.
        is_there = _is_at(path, descriptor)
        if is_ours and is_there:
            os.truncate(descriptor, 0)
            os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
            return descriptor
        os.close(descriptor)
        if is_there:
            raise InputError(f"{path} is not a lock file of flp_tf; move it, or name another folder")


def _is_at(path: Path, descriptor: int) -> bool:
    """Returns whether an open file still is at a path; by now, another file or none may be there."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    return False


def _holder(descriptor: int) -> str | None:
    """Returns "process PID on HOST", as the holder of a lock wrote it; None if no holder wrote the file."""
    try:
        content = json.loads(os.pread(descriptor, 1000, 0))
        if content.keys() == {"pid", "host"}:
            return f"process {content['pid']} on {content['host']}"
    except (OSError, ValueError, AttributeError, RecursionError):
        pass
    return None
