"""Meta-trained networks that ship with the library, each a run directory with weights alone.

    from flp_tf import pretrained
    run = pretrained.load("sine_continual_flp2")

`flp_tf.load(NAME)` does the same. `python -m flp_tf.main --mode=evaluate
--logdir=flp_tf/pretrained/NAME` repeats the figure in a network's `result.json`; docs/
says how it was trained.
"""

from typing import Any

from flp_tf.errors import InputError
from flp_tf.runs import run
from flp_tf.runs.run import PRETRAINED as HERE
from flp_tf.runs.run import pretrained_names as names

__all__ = ["HERE", "load", "names"]


def load(name: str, **changes: Any) -> run.Run:
    """Returns a meta-trained network that ships with the library.

    Args:
        name: one of `names()`.
        **changes: options to set anew, by flag, such as `omniglot_archives="DIR"`.

    Raises:
        InputError: if there is none of that name, or its data are not there.
    """
    if name not in names():
        raise InputError(f"there is no pretrained network {name}; legal names: {', '.join(names())}")
    return run.load(HERE / name, **changes)
