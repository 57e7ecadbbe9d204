"""Analyses: one module per figure, all of them based on the same lifetime loop.

See `flp_tf.analysis.base` for the contract. Importing this package registers all of them.
"""

from flp_tf.analysis import (
    adaptability,
    alignment,
    comparison,
    history,
    interference,
    learning_curves,
    lengths,
    readout,
    settling,
    sweep,
    update_norms,
)
from flp_tf.analysis.base import ANALYSES
from flp_tf.analysis.result import Curve, Result, save

__all__ = [
    "ANALYSES",
    "Curve",
    "Result",
    "adaptability",
    "alignment",
    "comparison",
    "history",
    "interference",
    "learning_curves",
    "lengths",
    "readout",
    "save",
    "settling",
    "sweep",
    "update_norms",
]
