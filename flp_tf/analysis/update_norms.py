"""Update norms: where and when do the weights change? (Fig. 2D)"""

from collections.abc import Callable
from pathlib import Path

from flp_tf.analysis import figures
from flp_tf.analysis.result import Result, save
from flp_tf.analysis.runs import Run, in_series
from flp_tf.analysis.steps import LayerValues, frobenius, layer_curves, places

NAME = "update_norms"
# Quantities and their units.
UNITS = {"update norm": "Frobenius", "relative update norm": "% of the weights' norm"}


def analyze(runs: list[Run], output: Path, *, lifetimes: int, seed: int) -> Result:
    """Size of each layer's update over the lifetime (paper, Fig. 2D).

    The Frobenius norm `|W_{t+1} - W_t|`, and the same in percent of `|W_t|`.

    Args:
        runs: of any method, flp beside gradient in the paper.
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
    """Returns the trace of the update norms `[lifetimes]`, one a plastic layer."""
    del run

    def trace(t, state, features, y, new_state):
        del t, features, y
        absolute = [frobenius(new - old) for new, old in zip(new_state, state)]
        relative = [100.0 * norm / frobenius(old) for norm, old in zip(absolute, state)]
        return dict(zip(UNITS, (absolute, relative)))

    return trace
