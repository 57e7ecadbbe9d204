"""Alignment: do local updates follow the gradient (Fig. 2C)?"""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from flp_tf.analysis import figures
from flp_tf.analysis.base import ANALYSES
from flp_tf.analysis.result import Result, save
from flp_tf.analysis.series import in_series
from flp_tf.analysis.steps import LayerValues, frobenius, kernels, layer_curves, places
from flp_tf.learners.gradient import inner_gradients
from flp_tf.runs.run import Run

NAME = "alignment"
QUANTITY = "cosine of update and negative gradient"


@ANALYSES.register(NAME)
def analyze(runs: list[Run], output: Path, *, lifetimes: int, seed: int) -> Result:
    """Cosine of each layer's update with the negative gradient (paper, Fig. 2C).

    At every inner step, `cos(W_{t+1} - W_t, -dLoss/dW_t)` with the task's loss on the
    batch of the step: 1 means gradient descent, 0 means that the update is unrelated to it.
    The cosine of an update of zero counts as 0.

    Args:
        runs: of any method.
        output: folder of the results.
        lifetimes: unseen lifetimes of each network.
        seed: of the lifetimes.
    """
    curves = []
    for series in in_series(runs, NAME):
        curves += layer_curves(series, cosines, {QUANTITY: ""}, lifetimes=lifetimes, seed=seed)
    figure = figures.lines(curves, "inner steps", places(curves))
    for axis in figure.axes:
        axis.axhline(0, color="0.4", linewidth=0.8)
    return save(NAME, output, curves, figure, "inner_step", "layer")


def cosines(run: Run) -> Callable[..., LayerValues]:
    """Returns the trace of the cosines, a tensor `[lifetimes]` per plastic layer."""

    def trace(t, state, features, y, new_state):
        del t
        gradients = inner_gradients(run.learner, run.task.loss, state, features, y)
        layers = zip(*(kernels(run.learner, part) for part in (new_state, state, gradients)))
        return {QUANTITY: [cosine(new - old, -gradient) for new, old, gradient in layers]}

    return trace


def cosine(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Returns the cosine of matrices `[..., in, out]`; 0 where one is zero.

    Each matrix is first scaled to a largest entry of 1: updates and gradients can be so small
    that float32 cannot represent their squares.
    """
    largest = [tf.reduce_max(tf.abs(x), [-2, -1], keepdims=True) for x in (one, other)]
    one, other = tf.math.divide_no_nan(one, largest[0]), tf.math.divide_no_nan(other, largest[1])
    return tf.math.divide_no_nan(tf.reduce_sum(one * other, [-2, -1]), frobenius(one) * frobenius(other))
