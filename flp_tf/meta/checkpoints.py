"""Checkpoints that survive truncation and refuse another architecture."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf


class Checkpoints:
    """The newest few checkpoints of a run, restored from the newest good one.

    Args:
        directory: folder of the checkpoints.
        variables: everything to keep, in an order that a run does not change.
        keep: how many checkpoints to keep.
    """

    def __init__(self, directory: Path, variables: Sequence[tf.Variable], keep: int = 3):
        self.directory, self.variables = directory, list(variables)
        checkpoint = tf.train.Checkpoint(variables=self.variables)
        self.manager = tf.train.CheckpointManager(checkpoint, str(directory), max_to_keep=keep)

    def save(self, step: int) -> None:
        """Writes a checkpoint named after the outer step."""
        self.manager.save(checkpoint_number=step)

    def restore(self) -> bool:
        """Restores the newest checkpoint that can be read, saying which were skipped.

        Returns:
            Whether there was any checkpoint.

        Raises:
            ValueError: if a checkpoint is of another architecture, or none is good.
        """
        steps = sorted((int(path.stem.split("-")[1]) for path in self.directory.glob("ckpt-*.index")), reverse=True)
        for step in steps:
            path = str(self.directory / f"ckpt-{step}")
            values = self._read(path)
            if values is not None:
                for variable, value in zip(self.variables, values):
                    variable.assign(value)
                return True
            print(f"flp_tf: checkpoint {path} is damaged; trying the one before it", file=sys.stderr)
        if steps:
            raise ValueError(f"--logdir: none of the {len(steps)} checkpoints in {self.directory} can be read")
        return False

    def _read(self, path: str) -> list[np.ndarray] | None:
        """Returns the values of all variables, or None if a file is damaged."""
        names = [f"variables/{i}/.ATTRIBUTES/VARIABLE_VALUE" for i in range(len(self.variables))]
        try:
            reader = tf.train.load_checkpoint(path)
            shapes = reader.get_variable_to_shape_map()
            values = [reader.get_tensor(name) if name in shapes else None for name in names]
        except (tf.errors.OpError, LookupError, RuntimeError, ValueError):  # TensorFlow has many ways to say so.
            return None
        for i, (name, variable) in enumerate(zip(names, self.variables)):
            found, expected = shapes.get(name, "missing"), variable.shape.as_list()
            if found != expected:
                raise ValueError(
                    f"--logdir: checkpoint {path} is of another architecture "
                    f"(weight {i} is {found}, the network's is {expected})"
                )
        return values
