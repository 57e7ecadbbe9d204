"""Analyses: every figure of the paper, one module each, over the one lifetime loop.

An analysis is a function `analysis(runs, output, *, lifetimes, seed) -> Result` of

* `runs`, a list of `Run`, loaded meta-trained networks to compare,
* `output`, the folder that its PNG, CSV and TensorBoard events go to,
* `lifetimes` and `seed`, which unseen lifetimes (split "test") it measures.

One that goes on meta-training takes flags of the outer loop, too, those in `OUTER_FLAGS`.
A new one is a new file here and a line in `ANALYSES`.
"""

from flp_tf.analysis import adaptability, alignment, interference, learning_curves, readout, update_norms
from flp_tf.analysis.result import Result
from flp_tf.analysis.runs import Run
from flp_tf.registry import Registry

ANALYSES = Registry(
    "analysis",
    readout=readout.analyze,
    adaptability=adaptability.analyze,
    interference=interference.analyze,
    alignment=alignment.analyze,
    update_norms=update_norms.analyze,
    learning_curves=learning_curves.analyze,
)

OUTER_FLAGS = {adaptability.NAME: adaptability.OUTER_FLAGS}

__all__ = ["ANALYSES", "OUTER_FLAGS", "Result", "Run"]
