"""A loaded run: its configuration, task and learner."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flp_tf import learners
from flp_tf.errors import InputError
from flp_tf.learners.base import Learner
from flp_tf.meta.distribution import allow_memory_growth
from flp_tf.runs.checkpoints import Checkpoints, weights
from flp_tf.runs.config import Config
from flp_tf.runs.directory import RunDirectory
from flp_tf.runs.sections import places
from flp_tf.tasks import Task

# Folder of the networks that ship with the library.
PRETRAINED = Path(__file__).parents[1] / "pretrained"


class Run(NamedTuple):
    """A meta-trained network, and the run that it came from.

    Attributes:
        path: the run directory.
        config: its configuration.
        task: its task.
        learner: the learner with the meta-learned weights.
    """

    path: Path
    config: Config
    task: Task
    learner: Learner

    def result(self) -> dict[str, Any]:
        """Returns the content of `result.json`; raises InputError if the run is not finished."""
        return RunDirectory(self.path).read("result.json")

    def progress(self) -> dict[str, float]:
        """Returns the progress of the run at its newest checkpoint: `episodes` and, if recorded, `minutes`."""
        checkpoint = Checkpoints(self.path / "checkpoints", {}).newest()
        if checkpoint is None:
            return {"episodes": 0}
        seconds = checkpoint.content.get("outer/seconds")
        minutes = {} if seconds is None else {"minutes": float(seconds) / 60}
        return {"episodes": min(checkpoint.step * self.config.meta_batch, self.config.episodes)} | minutes


def pretrained_names() -> list[str]:
    """Returns the names of the networks that ship with the library."""
    return sorted(file.parent.name for file in PRETRAINED.glob("*/config.json"))


def load(path: str | os.PathLike[str], **changes: Any) -> Run:
    """Loads a finished or interrupted run, or a pretrained network of the library.

    Example:
        >>> import flp_tf
        >>> run = flp_tf.load("sine_continual_flp2")

    Args:
        path: a run directory, or the name of a pretrained network (`flp_tf.pretrained.names()`).
            A run directory of that name takes precedence.
        **changes: new values for options of the run, by flag, such as `omniglot_archives="DIR"`.

    Raises:
        InputError: if there is no run, no checkpoint, or no checkpoint that fits, or if the task has other data
            than those that the run was started with.
    """
    directory = find(path)
    return restore(directory.path, changed(directory.config(), changes))


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """Returns the configuration of a run with other options.

    A `config.json` may come from another machine or user, and must not decide where files are written. Its
    `data_dir` is used only if it already has the same images, decoded.

    Args:
        config: of the run.
        changes: new values of options, by flag.

    Raises:
        InputError: see `Config.replace`.
    """
    config = config.replace(**changes)
    folder = getattr(config, "data_dir", None)
    if folder is None or "data_dir" in changes:
        return config
    usual = places()["data_dir"][0].field.default
    if folder == usual or _is_cached(config):
        return config
    print(
        f"flp_tf: --data_dir={folder} of the run's config.json lacks these images; taken: --data_dir={usual}",
        file=sys.stderr,
    )
    return config.replace(data_dir=usual)


def _is_cached(config: Config) -> bool:
    task, options = config.choice("task")
    try:
        return hasattr(task, "is_cached") and task.is_cached(options)
    except InputError:
        # The data are needed only for some modes.
        return False


def find(path: str | os.PathLike[str], flag: str = "logdir") -> RunDirectory:
    """Returns the run directory of a run, or of a pretrained network of the library.

    Args:
        path: see `load`.
        flag: the flag that names it, for messages.

    Raises:
        InputError: if there is no such directory or network.
    """
    directory = RunDirectory(path, flag)
    if not directory.config_file.exists() and os.fspath(path) in pretrained_names():
        return RunDirectory(PRETRAINED / path, flag)
    if not directory.path.exists():
        ships = ", ".join(pretrained_names())
        raise InputError(f"--{flag}={path} does not exist, and is no network that ships; those are {ships}")
    return directory


def start_from(learner: Learner, path: str | os.PathLike[str]) -> None:
    """Gives a learner the weights of a run, or of a pretrained network of the library.

    Args:
        learner: of the same architecture.
        path: see `load`.

    Raises:
        InputError: if there is no such run, or its weights are of another architecture.
    """
    directory = find(path, "init_from")
    if Checkpoints(directory.checkpoints, weights(learner), flag="init_from").restore() is None:
        raise InputError(f"--init_from={path} holds no checkpoint")


def restore(path: Path, config: Config) -> Run:
    """Returns the run in a folder, with another configuration than the saved one.

    Args:
        path: the run directory.
        config: the configuration.

    Raises:
        InputError: if there is no checkpoint, or none that fits, or if the task has other data than the run.
    """
    task = config.make_task()
    RunDirectory(path).check_data(config, task.fingerprint)
    return Run(Path(path), config, task, restore_learner(path, config, task))


def restore_learner(path: Path, config: Config, task: Task | None = None) -> Learner:
    """Returns the learner of a run, without reading the data of its task.

    Args:
        path: the run directory.
        config: the configuration.
        task: its task, if it already exists.

    Raises:
        InputError: see `restore`.
    """
    allow_memory_growth()
    learner = learners.build(config, task or config.task_signature())
    checkpoints = Checkpoints(RunDirectory(path).checkpoints, weights(learner))
    if checkpoints.restore() is None:
        raise InputError(f"--logdir={path} holds no checkpoint yet")
    return learner
