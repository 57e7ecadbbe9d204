"""Paths that users name, and files that are written whole or not at all."""

import contextlib
import errno
import os
import re
import secrets
import stat
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from flp_tf.errors import InputError

# Control characters, half characters (of names that are not UTF-8), and ends of lines and paragraphs.
ILLEGAL = ("Cc", "Cs", "Zl", "Zp")
# Bytes of a file that is written to see whether files can be.
BLOCK = 1 << 16
# Names of files and folders while they are written; see `partial`.
PARTIAL = re.compile(r"\.(.+)\.flp_tf-[0-9a-f]{16}\.partial")


def local(text: str | os.PathLike[str], flag: str) -> Path:
    """Returns the path that a user names, with `~` for the home.

    Args:
        text: the path.
        flag: the flag that it is the value of, for messages.

    Raises:
        InputError: if it names nothing, nothing on this machine, or the home of a user who does not exist.
    """
    text = os.fspath(text)
    if not text:
        raise InputError(f"--{flag}= names no folder")
    if re.match(r"[A-Za-z][\w+.-]*://", text):
        raise InputError(f"--{flag}={text} is not a local folder; mount it, or name a local one")
    if illegal := [character for character in text if unicodedata.category(character) in ILLEGAL]:
        raise InputError(
            f"--{flag}={text!r} has the character {illegal[0]!r}; legal are characters of one line of text"
        )
    try:
        path = Path(text).expanduser()
        path.exists()
    except RuntimeError:
        raise InputError(f"--{flag}={text} names the home of a user who does not exist") from None
    except OSError as error:
        raise InputError(f"--{flag}={text} cannot be used: {error.strerror}") from None
    return path


def check_writable(folder: Path, flag: str) -> None:
    """Makes a folder if it is missing, and checks that files can be made in it.

    Args:
        folder: the folder.
        flag: the flag that names it, for messages.

    Raises:
        InputError: if they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            # Some full disks take a name, but no content.
            file.write(bytes(BLOCK))
    except OSError as error:
        raise InputError(f"--{flag}={folder} cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def unmade(folder: Path) -> Iterator[None]:
    """A context that, at an error, removes a folder and those above it that it found missing, if they are empty."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def printable(name: str) -> str:
    """Returns the name of a file for messages; one that is not UTF-8 could not be printed on every screen."""
    return name.encode(errors="backslashreplace").decode()


def read_bytes(path: Path) -> bytes:
    """Returns what a file holds; a pipe or a device, whose reader may wait for ever, is no file.

    Raises:
        OSError: if it cannot be read.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return path.read_bytes()


def check_no_link(path: Path, root: Path, flag: str) -> None:
    """Checks that a folder to write to lies in the one that a user names: no link leads elsewhere.

    Args:
        path: the folder, below `root`; it need not exist.
        root: the folder that the user names.
        flag: the flag that names it, for messages.

    Raises:
        InputError: if it, or a folder between both, is a link.
    """
    for folder in (path, *path.parents[: len(path.relative_to(root).parts) - 1]):
        if folder.is_symlink():
            raise InputError(f"--{flag}: {folder} is in the way: it is a link; move it, or name another folder")


def check_complete(paths: Sequence[Path], flag: str) -> None:
    """Checks that files that are always written together are all there, or none: one alone is another's.

    Args:
        paths: of the files.
        flag: the flag that names their folder, for messages.

    Raises:
        InputError: if they are not, or one is a link.
    """
    there = [path for path in paths if path.is_symlink()] or list(filter(os.path.lexists, paths))
    if there and (there[0].is_symlink() or not all(path.is_file() for path in paths)):
        raise InputError(f"--{flag}: {there[0]} is in the way; move it, or name another folder")


def partial(path: Path) -> Path:
    """Returns another name in the same folder for a file or folder while it is written, random and only ours."""
    return path.parent / f".{path.name}.flp_tf-{secrets.token_hex(8)}.partial"


@contextlib.contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A context that writes a file whole or not at all.

    The file is written under another name in the same folder, and renamed at the end. The
    other name is random and its file is created exclusively, so that a link planted there
    is not followed. Who may read it follows from the umask, as for every new file.

    Args:
        path: of the file; an older one is replaced.

    Raises:
        InputError: if the file cannot be written.
    """
    new = partial(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with new.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
