"""Update norms: where and when do the weights change (Fig. 2D)?"""

from collections.abc import Callable
from pathlib import Path

from flp_tf.analysis import figures
from flp_tf.analysis.base import ANALYSES
from flp_tf.analysis.result import Result, save
from flp_tf.analysis.series import in_series
from flp_tf.analysis.steps import LayerValues, frobenius, kernels, layer_curves, places
from flp_tf.runs.run import Run

NAME = "update_norms"
# Quantities and their units.
UNITS = {"update norm": "Frobenius", "relative update norm": "% of the weights' norm"}


@ANALYSES.register(NAME)
def analyze(runs: list[Run], output: Path, *, lifetimes: int, seed: int) -> Result:
    """Size of each layer's update over the lifetime (paper, Fig. 2D).

    It measures the Frobenius norm `|W_{t+1} - W_t|`, and the same in percent of `|W_t|`.

    Args:
        runs: of any method; in the paper, flp and gradient.
        output: folder of the results.
        lifetimes: unseen lifetimes of each network.
        seed: of the lifetimes.
    """
    curves = []
    for series in in_series(runs, NAME):
        curves += layer_curves(series, norms, UNITS, lifetimes=lifetimes, seed=seed)
    figure = figures.lines(curves, "inner steps", places(curves))
    return save(NAME, output, curves, figure, "inner_step", "layer")


def norms(run: Run) -> Callable[..., LayerValues]:
    """Returns the trace of the update norms, a tensor `[lifetimes]` per plastic layer."""

    def trace(t, state, features, y, new_state):
        del t, features, y
        before, after = (kernels(run.learner, fast) for fast in (state, new_state))
        absolute = [frobenius(new - old) for new, old in zip(after, before)]
        relative = [100.0 * norm / frobenius(old) for norm, old in zip(absolute, before)]
        return dict(zip(UNITS, (absolute, relative)))

    return trace
