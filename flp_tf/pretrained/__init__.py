"""Meta-trained networks that ship with the library, each a run directory.

    from flp_tf import pretrained
    config, task, learner = pretrained.load("sine_continual_flp2")

`python -m flp_tf.main --mode=evaluate --logdir=flp_tf/pretrained/NAME` repeats the
figure in a run's `result.json`; docs/ says how it was trained.
"""

import dataclasses
from pathlib import Path

from flp_tf.config import Config
from flp_tf.learners.base import Learner
from flp_tf.meta.run_directory import RunDirectory
from flp_tf.tasks import Task

HERE = Path(__file__).parent


def names() -> list[str]:
    """Returns the names of all networks."""
    return sorted(file.parent.name for file in HERE.glob("*/config.json"))


def load(name: str, **changes) -> tuple[Config, Task, Learner]:
    """Returns the configuration, task and learner of a meta-trained network.

    Args:
        name: one of `names()`.
        **changes: flags to set anew, such as `omniglot_archives="DIR"`.

    Raises:
        ValueError: if there is none of that name, or its data are not there.
    """
    from flp_tf import modes

    if name not in names():
        raise ValueError(f"there is no pretrained network {name}; legal names: {', '.join(names())}")
    path = str(HERE / name)
    config = dataclasses.replace(RunDirectory(path).config(), **changes).resolve()
    return modes.load(path, config)
