"""The SavedModel."""

import os
import tempfile
from pathlib import Path

import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.export.online import OnlineLearner
from flp_tf.learners.base import Learner

# What TensorFlow writes into the folder of a SavedModel.
CONTENT = {"saved_model.pb", "fingerprint.pb", "variables", "assets"}


def free(path: Path) -> bool:
    """Returns whether `export` may write a folder: there is none, or it is a SavedModel and nothing else."""
    if not os.path.lexists(path):
        return True
    if path.is_symlink() or not path.is_dir():
        return False
    found = {child.name for child in path.iterdir()}
    return "saved_model.pb" in found and found <= CONTENT


def export(learner: Learner, path: str | Path) -> None:
    """Writes a SavedModel with `predict(x)`, `learn(x, y)` and `reset()`, whole or not at all.

    Its signatures are those of `OnlineLearner.signatures`.

    Args:
        learner: the meta-learned learner.
        path: folder of the SavedModel; an earlier one is replaced.

    Raises:
        InputError: if the folder cannot be written, or is something else than a SavedModel.
    """
    path = Path(path)
    if not free(path):
        raise InputError(f"{path} is in the way: it is not a SavedModel alone; move it")
    model = OnlineLearner(learner)
    signatures = model.signatures()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".partial") as folder:
            new, old = Path(folder) / "new", Path(folder) / "old"
            tf.saved_model.save(model, str(new), signatures=signatures)
            if path.exists():
                path.rename(old)
            new.rename(path)
    except (OSError, tf.errors.OpError) as error:
        raise InputError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from None
