"""The SavedModel."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.export.online import OnlineLearner
from flp_tf.files import partial
from flp_tf.learners.base import Learner

# Says which run a SavedModel is of; TensorFlow leaves this folder to others.
LABEL = "assets.extra/flp_tf.json"
# The files of a SavedModel of ours.
FILE = re.compile(rf"saved_model\.pb|fingerprint\.pb|variables/variables\.(index|data-\d+-of-\d+)|{re.escape(LABEL)}")


def free(path: Path) -> bool:
    """Returns whether `export` may write a folder: there is none, or it is a SavedModel and nothing else."""
    if not os.path.lexists(path):
        return True
    if path.is_symlink() or not path.is_dir():
        return False
    found = {
        child.relative_to(path).as_posix() for child in path.rglob("*") if child.is_symlink() or not child.is_dir()
    }
    return "saved_model.pb" in found and all(FILE.fullmatch(name) and (path / name).is_file() for name in found)


def export(learner: Learner, path: str | Path, label: Mapping[str, Any] | None = None) -> None:
    """Writes a SavedModel with `predict(x)`, `learn(x, y)` and `reset()`, whole or not at all.

    Its signatures are those of `OnlineLearner.signatures`.

    Args:
        learner: the meta-learned learner.
        path: folder of the SavedModel; an earlier one is replaced.
        label: says which run it is of, see `flp_tf.runs.labels`.

    Raises:
        InputError: if the folder cannot be written, or is something else than a SavedModel.
    """
    path = Path(path)
    if not free(path):
        raise InputError(f"{path} is in the way: it is not a SavedModel alone; move it")
    model = OnlineLearner(learner)
    signatures = model.signatures()
    try:
        folder = partial(path)
        folder.mkdir(parents=True)
        try:
            new, old = folder / "new", folder / "old"
            tf.saved_model.save(model, str(new), signatures=signatures)
            if label is not None:
                (new / LABEL).parent.mkdir()
                (new / LABEL).write_text(json.dumps({"run": dict(label)}, indent=2) + "\n")
            if path.exists():
                path.rename(old)
            new.rename(path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except (OSError, tf.errors.OpError) as error:
        raise InputError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from None
