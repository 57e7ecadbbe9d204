"""Shared by alignment and update norms: numbers for every plastic layer and inner step."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from flp_tf import lifetime
from flp_tf.analysis.result import Curve
from flp_tf.analysis.series import Series, measure
from flp_tf.learners.base import Learner
from flp_tf.runs.run import Run
from flp_tf.tasks.base import Episode

# For each quantity, a tensor `[lifetimes]` per plastic layer, from the input side up.
LayerValues = dict[str, list[tf.Tensor]]


def layer_curves(
    series: Series,
    trace: Callable[[Run], Callable[..., LayerValues]],
    units: Mapping[str, str],
    *,
    lifetimes: int,
    seed: int,
) -> list[Curve]:
    """Traces unseen lifetimes; returns a curve over the inner steps for every quantity and layer.

    Args:
        series: the networks.
        trace: `trace(run)` is a trace for `lifetime.run` that returns `LayerValues`.
        units: of the quantities.
        lifetimes: unseen lifetimes of each network.
        seed: of the lifetimes.
    """

    def function(run: Run, episode: Episode) -> LayerValues:
        traces = lifetime.run(run.learner, episode, trace=trace(run)).traces
        return tf.nest.map_structure(tf.transpose, traces)

    values = measure(series, function, lifetimes=lifetimes, seed=seed)
    inner_steps = np.arange(1, series.task.steps + 1)
    return [
        Curve(series, quantity, unit, place(depth), inner_steps, of_layer)
        for quantity, unit in units.items()
        for depth, of_layer in zip(reversed(range(len(values[quantity]))), values[quantity])
    ]


def kernels(learner: Learner, state: Mapping[str, Mapping[str, Any]]) -> list[tf.Tensor]:
    """Returns the fast kernel `[lifetimes, in, out]` of every plastic layer, from the input side up."""
    return [state[layer.name]["kernel"] for layer in learner.network.head]


def place(depth: int) -> str:
    """Returns the name of the layer that is `depth` layers below the output layer."""
    return f"{depth} layer{'s' if depth > 1 else ''} below the output" if depth else "output layer"


def places(curves: list[Curve]) -> list[str]:
    """Returns the layers of some curves in the order of the networks, the output last."""
    deepest = len({curve.panel for curve in curves}) - 1
    return [place(depth) for depth in range(deepest, -1, -1)]


def frobenius(matrices: tf.Tensor) -> tf.Tensor:
    """Returns the Frobenius norm of `[..., in, out]`."""
    return tf.sqrt(tf.reduce_sum(tf.square(matrices), [-2, -1]))
