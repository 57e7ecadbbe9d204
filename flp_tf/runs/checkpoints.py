"""Checkpoints by name: damaged files are skipped, other architectures are refused.

A checkpoint is one file, `ckpt-STEP.npz`, with an array for each variable under the
variable's name; `numpy.load` reads it. The names of the network's weights start with
`learner/`. A file with only these can be evaluated and exported, but not trained further.
"""

import hashlib
import io
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.files import whole
from flp_tf.learners.base import Learner

# What the names of a learner's variables start with.
LEARNER = "learner/"
NAME = re.compile(r"ckpt-([0-9]{1,18})\.npz")
# Name of a checkpoint of flp_tf 0.1.
OLD_NAME = re.compile(r"ckpt-[0-9]+\.index")
# Most weights that a message about another architecture names.
MOST_NAMED = 3
# Errors from a damaged file: from the archive's directory, its entries and the headers of arrays.
DAMAGE = (OSError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError, ValueError)


def weights(learner: Learner) -> dict[str, tf.Variable]:
    """Returns a learner's variables under the names that they have in checkpoints."""
    return {LEARNER + path: variable.value for path, variable in learner.variables.items()}


def any_in(directory: Path) -> bool:
    """Returns whether a folder has checkpoints, good or damaged, of this version or of flp_tf 0.1."""
    return any(NAME.fullmatch(path.name) or OLD_NAME.fullmatch(path.name) for path in _content(directory))


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        step: outer steps done.
        content: all arrays by name.
    """

    step: int
    content: dict[str, np.ndarray]


class Checkpoints:
    """The newest few checkpoints of a run, restored from the newest good one.

    Args:
        directory: folder of the checkpoints.
        variables: everything to keep, by name. If all of them are a learner's, a file may also
            have variables of the outer loop, which are not read.
        keep: number of checkpoints to keep.
        flag: the flag that names the run, for messages.
    """

    def __init__(self, directory: Path, variables: Mapping[str, tf.Variable], keep: int = 3, flag: str = "logdir"):
        self.directory, self.variables, self.keep, self.flag = directory, dict(variables), keep, flag

    @property
    def steps(self) -> list[int]:
        """The outer steps of the existing checkpoints, newest first."""
        names = (NAME.fullmatch(path.name) for path in _content(self.directory) if path.is_file())
        return sorted((int(name[1]) for name in names if name), reverse=True)

    def save(self, step: int) -> None:
        """Writes a checkpoint named after the outer step, and drops the oldest.

        Raises:
            InputError: if the file cannot be written; older checkpoints are then unchanged.
        """
        with whole(self._path(step)) as file, zipfile.ZipFile(file, "w") as archive:
            for name, variable in self.variables.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, variable.numpy(), allow_pickle=False)
            archive.comment = _seal(archive)
        for old in self.steps[self.keep :]:
            self._path(old).unlink(missing_ok=True)

    def restore(self) -> int | None:
        """Restores the newest checkpoint that can be read, and prints which ones were skipped.

        Returns:
            The outer step of the checkpoint, None if there is none.

        Raises:
            InputError: if a checkpoint is of another architecture or of flp_tf 0.1, if it
                lacks variables, or if all are damaged.
        """
        if found := self.newest(damaged=self._report):
            self._check(found.step, found.content)
            for name, variable in self.variables.items():
                variable.assign(_as(found.content[name], variable.dtype.as_numpy_dtype))
            return found.step
        if self.steps:
            raise InputError(
                f"--{self.flag}: none of the {len(self.steps)} checkpoints in {self.directory} can be read; "
                "to train anew, name another folder"
            )
        if any(OLD_NAME.fullmatch(path.name) for path in _content(self.directory)):
            raise InputError(
                f"--{self.flag}: the checkpoints in {self.directory} are of flp_tf 0.1, which this version does not "
                "read; use them with flp_tf 0.1, or train anew in another folder"
            )
        return None

    def newest(self, damaged: Callable[[int], None] = lambda step: None) -> "Checkpoint | None":
        """Returns the newest checkpoint that can be read, None if there is none.

        Args:
            damaged: called with the outer step of each newer one that cannot be read.
        """
        for step in self.steps:
            content = self._read(step)
            if content is not None:
                return Checkpoint(step, content)
            damaged(step)
        return None

    def _report(self, step: int) -> None:
        print(f"flp_tf: checkpoint {self._label(step)} is damaged; trying the one before it", file=sys.stderr)

    def _path(self, step: int) -> Path:
        return self.directory / f"ckpt-{step}.npz"

    def _label(self, step: int) -> Path:
        return self._path(step).with_suffix("")

    def _read(self, step: int) -> dict[str, np.ndarray] | None:
        """Returns all arrays of a checkpoint, or None if it is damaged."""
        try:
            with zipfile.ZipFile(self._path(step)) as archive:
                # Each entry is read to its end before it is decoded, because only then is its checksum compared.
                content = {entry.filename: archive.read(entry) for entry in archive.infolist()}
                if archive.comment != _seal(archive):
                    return None
            arrays = {
                name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(value), allow_pickle=False)
                for name, value in content.items()
            }
        except PermissionError as error:
            raise InputError(f"--{self.flag}: {self._path(step)} cannot be read: {error.strerror}") from None
        except DAMAGE:
            return None
        return arrays

    def _check(self, step: int, content: Mapping[str, np.ndarray]) -> None:
        """Raises InputError unless a checkpoint has the variables, and no others."""
        wanted = {name: variable.shape.as_list() for name, variable in self.variables.items()}
        found = {name: list(value.shape) for name, value in content.items()}
        if all(name.startswith(LEARNER) for name in wanted):
            found = {name: shape for name, shape in found.items() if name.startswith(LEARNER)}
        elif all(name.startswith(LEARNER) for name in found):
            raise InputError(
                f"--{self.flag}: checkpoint {self._label(step)} holds the network's weights alone; "
                "it can be evaluated, exported, analyzed and the --init_from of another run, but not trained further"
            )
        different = [
            f"weight {name} is {found.get(name, 'missing')}, the network's is {wanted.get(name, 'missing')}"
            for name in sorted(wanted.keys() | found.keys())
            if wanted.get(name) != found.get(name)
        ]
        if different:
            more = f"; and {len(different) - MOST_NAMED} more" if len(different) > MOST_NAMED else ""
            raise InputError(
                f"--{self.flag}: checkpoint {self._label(step)} is of another architecture "
                f"({'; '.join(different[:MOST_NAMED])}{more})"
            )


def _seal(archive: zipfile.ZipFile) -> bytes:
    """Returns a checksum of an archive's directory, to be kept as its comment; the format has no such checksum."""
    entries = sorted((entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist())
    return hashlib.sha256(repr(entries).encode()).hexdigest().encode()


def _as(value: np.ndarray, dtype: type) -> np.ndarray:
    """Returns an array in a variable's type; types that NumPy lacks, such as bfloat16, are stored as bytes."""
    return value.view(dtype) if value.dtype.kind == "V" else value.astype(dtype)


def _content(directory: Path) -> list[Path]:
    """Returns the content of a folder; an empty list if there is no folder."""
    return list(directory.iterdir()) if directory.is_dir() else []
