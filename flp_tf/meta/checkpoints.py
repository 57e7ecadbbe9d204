"""Checkpoints that survive truncation and refuse another architecture."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from absl import logging


class Checkpoints:
    """The newest few checkpoints of a run, restored from the newest good one.

    Args:
        directory: folder of the checkpoints.
        variables: everything to keep, in an order that a run does not change.
        keep: how many checkpoints to keep.
    """

    def __init__(self, directory: Path, variables: Sequence[tf.Variable], keep: int = 3):
        self.variables = list(variables)
        checkpoint = tf.train.Checkpoint(variables=self.variables)
        self.manager = tf.train.CheckpointManager(checkpoint, str(directory), max_to_keep=keep)

    def save(self, step: int) -> None:
        """Writes a checkpoint named after the outer step."""
        if self.manager.latest_checkpoint and self.manager.latest_checkpoint.endswith(f"-{step}"):
            return
        self.manager.save(checkpoint_number=step)

    def restore(self, first: int | None = None) -> bool:
        """Restores the newest checkpoint that can be read, saying which were skipped.

        Args:
            first: how many of the variables to restore, from the first; all by
                default. Evaluation needs no optimizer.

        Returns:
            Whether there was any checkpoint.

        Raises:
            ValueError: if a checkpoint is of another architecture, or none is good.
        """
        paths = list(reversed(self.manager.checkpoints))
        for path in paths:
            values = self._read(path, self.variables[:first])
            if values is not None:
                for variable, value in zip(self.variables, values):
                    variable.assign(value)
                return True
            logging.warning("Checkpoint %s is damaged; trying the one before it.", path)
        if paths:
            raise ValueError(f"--logdir: none of the {len(paths)} checkpoints in {Path(paths[0]).parent} can be read")
        return False

    def _read(self, path: str, variables: Sequence[tf.Variable]):
        """Returns the values of all variables, or None if the file is damaged."""
        try:
            reader = tf.train.load_checkpoint(path)
            shapes = reader.get_variable_to_shape_map()
            names = [f"variables/{i}/.ATTRIBUTES/VARIABLE_VALUE" for i in range(len(variables))]
            for name, variable in zip(names, variables):
                if shapes.get(name) != variable.shape.as_list():
                    raise ValueError(
                        f"--logdir: checkpoint {path} is of another architecture "
                        f"(weight {name.split('/')[1]} is {shapes.get(name)}, the network's is {variable.shape.as_list()})"
                    )
            return [reader.get_tensor(name) for name in names]
        except (tf.errors.OpError, RuntimeError, UnicodeDecodeError):
            return None
