"""Paths that users name, and files that are written whole or not at all."""

import contextlib
import os
import re
import secrets
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from flp_tf.errors import InputError

# Control characters, half characters (of names that are not UTF-8), and ends of lines and paragraphs.
ILLEGAL = ("Cc", "Cs", "Zl", "Zp")
# Bytes of a file that is written to see whether files can be.
BLOCK = 1 << 16
# Names of files and folders while they are written.
PARTIAL = re.compile(r"\..+\.[0-9a-z_]{8,16}\.partial")


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
    partial = path.parent / f".{path.name}.{secrets.token_hex(8)}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
