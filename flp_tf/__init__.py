"""Meta-learning with feedback and local plasticity, in TensorFlow and Keras.

import flp_tf
config = flp_tf.configure(task="sine", method="flp", episodes=1000)
run = flp_tf.meta_train(config, "runs/sine")
run = flp_tf.load("runs/sine")
"""

import importlib
from typing import Any

__version__ = "0.2.0"

# Imported when they are first used: TensorFlow takes seconds.
_EXPORTS = {
    "configure": "flp_tf.runs.config",
    "load": "flp_tf.runs.run",
    "meta_train": "flp_tf.runs.training",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    """Returns one of `_EXPORTS`."""
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Returns the names that there are."""
    return sorted([*globals(), *_EXPORTS])
