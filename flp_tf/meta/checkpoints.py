"""Checkpoints that survive truncation and refuse another architecture."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

# What TensorFlow calls a variable of the list that is kept.
KEY = "variables/{}/.ATTRIBUTES/VARIABLE_VALUE"


class Checkpoints:
    """The newest few checkpoints of a run, restored from the newest good one.

    Args:
        directory: folder of the checkpoints.
        variables: everything to keep, in an order that a run does not change.
        keep: how many checkpoints to keep.
    """

    def __init__(self, directory: Path, variables: Sequence[tf.Variable], keep: int = 3):
        self.directory, self.variables, self.keep = directory, list(variables), keep

    @property
    def steps(self) -> list[int]:
        """The outer steps that there are checkpoints of, newest first."""
        # The index is what TensorFlow writes last.
        return sorted((int(path.stem.split("-")[1]) for path in self.directory.glob("ckpt-*.index")), reverse=True)

    def save(self, step: int) -> None:
        """Writes a checkpoint named after the outer step, and drops the oldest."""
        tf.train.Checkpoint(variables=self.variables).write(str(self.directory / f"ckpt-{step}"))
        for old in self.steps[self.keep :]:
            for path in sorted(self.directory.glob(f"ckpt-{old}.*"), reverse=True):
                path.unlink()

    def restore(self) -> int | None:
        """Restores the newest checkpoint that can be read, saying which were skipped.

        Returns:
            The outer step of the checkpoint, None if there was none.

        Raises:
            ValueError: if a checkpoint is of another architecture, or none is good.
        """
        for step in self.steps:
            path = self.directory / f"ckpt-{step}"
            values = self._read(path)
            if values is not None:
                for variable, value in zip(self.variables, values):
                    variable.assign(value)
                return step
            print(f"flp_tf: checkpoint {path} is damaged; trying the one before it", file=sys.stderr)
        if self.steps:
            raise ValueError(f"--logdir: none of the {len(self.steps)} checkpoints in {self.directory} can be read")
        return None

    def value(self, step: int, index: int) -> np.ndarray | None:
        """Returns a variable as it was at an outer step, None if it was not kept."""
        reader = tf.train.load_checkpoint(str(self.directory / f"ckpt-{step}"))
        name = KEY.format(index)
        return reader.get_tensor(name) if reader.has_tensor(name) else None

    def _read(self, path: Path) -> list[np.ndarray] | None:
        """Returns the values of all variables, or None if a file is damaged."""
        try:
            reader = tf.train.load_checkpoint(str(path))
            # All that the file has, needed or not: what is truncated is not trusted.
            content = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
        except (tf.errors.OpError, LookupError, RuntimeError, ValueError):  # TensorFlow has many ways to say so.
            return None
        values = [content.get(KEY.format(i)) for i in range(len(self.variables))]
        for i, (value, variable) in enumerate(zip(values, self.variables)):
            found, expected = "missing" if value is None else list(value.shape), variable.shape.as_list()
            if found != expected:
                raise ValueError(
                    f"--logdir: checkpoint {path} is of another architecture "
                    f"(weight {i} is {found}, the network's is {expected})"
                )
        return values
