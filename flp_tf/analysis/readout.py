"""Readout: how much plasticity below the readout contributes (Fig. 2A)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from flp_tf import losses
from flp_tf.analysis import figures
from flp_tf.analysis.base import ANALYSES
from flp_tf.analysis.result import Baseline, Curve, Result, save
from flp_tf.analysis.series import Series, in_series, measure
from flp_tf.errors import InputError
from flp_tf.meta.evaluation import Evaluator
from flp_tf.networks import State
from flp_tf.runs.run import Run
from flp_tf.tasks.base import Episode

NAME = "readout"
PANELS = "after a lifetime of plasticity", "readout fitted, all below frozen"
# Relative to the features' mean square: small enough not to change the fit, large enough to
# keep the float32 noise of linearly dependent features out of it.
RIDGE = 1e-9
EPOCHS = 1000


@ANALYSES.register(NAME)
def analyze(runs: list[Run], output: Path, *, lifetimes: int, seed: int) -> Result:
    """Compares networks with 1, 2, 3, ... plastic layers with their best fixed-feature readout (Fig. 2A).

    Each network is tested after a lifetime. Then all its initial weights except those of
    the output layer are frozen, and the output layer is fitted to the same data: in
    closed form for regression (the limit of many epochs), with `EPOCHS` epochs of
    logistic regression for classification. If the meta-learned features alone explained
    the performance, the fitted readout would be no worse: the column `change` of the CSV, the
    ratio of both errors within each network, would not be above 1.

    Args:
        runs: networks with different numbers of plastic layers.
        output: folder of the results.
        lifetimes: unseen lifetimes of each network.
        seed: of the lifetimes.

    Raises:
        InputError: if there is no fit for the task's loss.
    """
    if runs[0].task.loss not in FITS:
        raise InputError(f"--analysis={NAME} has no fit for the loss of --task={runs[0].config.task}")
    curves = []
    for series in in_series(runs, NAME):
        errors = errors_after_lifetime(series, lifetimes=lifetimes, seed=seed)[:, None]
        fitted = measure(series, fitted_errors, lifetimes=lifetimes, seed=seed)[:, None]
        shared = {"quantity": "error", "unit": series.task.unit, "x": [series.config.num_plastic_layers]}
        curves += [
            Curve(series, panel=PANELS[0], values=errors, **shared),
            Curve(series, panel=PANELS[1], values=fitted, baseline=Baseline(PANELS[0], errors), **shared),
        ]
    figure = figures.points(curves, "plastic layers", PANELS)
    figures.join(figure, curves, PANELS)
    return save(NAME, output, curves, figure, "plastic_layers", "readout")


def errors_after_lifetime(series: Series, *, lifetimes: int, seed: int) -> np.ndarray:
    """Returns the query error after a lifetime `[networks * lifetimes]`."""
    errors = [Evaluator(run.learner, run.task, run.config.jit_compile)(seed, lifetimes).errors for run in series.runs]
    return np.concatenate(errors)


def fitted_errors(run: Run, episode: Episode) -> tf.Tensor:
    """Returns the query error of the initial networks with a fitted readout `[lifetimes]`.

    It takes one lifetime after the other, because the features of all examples of a lifetime are large.
    """
    fit = FITS[run.task.loss]

    def one(support_x, support_y, query_x, query_y, seed):
        state = run.learner.initial_state(seed[None])
        readout = fit(with_bias(features(run, state, support_x)), tf.reshape(support_y, [-1, support_y.shape[-1]]))
        outputs = tf.cast(tf.matmul(with_bias(features(run, state, query_x)), readout), query_y.dtype)
        return run.task.error(outputs, query_y)

    support = [tf.einsum("tl...->lt...", part) for part in (episode.support_x, episode.support_y)]
    return tf.map_fn(
        lambda parts: one(*parts),
        (*support, episode.query_x, episode.query_y, episode.seed),
        fn_output_signature=tf.TensorSpec([], episode.query_y.dtype),
    )


def features(run: Run, state: State, x: tf.Tensor) -> tf.Tensor:
    """Returns the input of the output layer of one lifetime.

    Args:
        run: the network.
        state: its state, of one lifetime.
        x: inputs `[..., *input_shape]`.

    Returns:
        `[examples, features]`.
    """
    network, learner = run.learner.network, run.learner
    examples = tf.reshape(x, [1, -1, *run.task.input_shape])
    activities = network.activities(state, learner.encode(examples))
    rows = network.head[-1].presynaptic(activities[-2])
    return tf.reshape(rows, [-1, rows.shape[-1]])


def with_bias(features: tf.Tensor) -> tf.Tensor:
    """Returns features with a constant one, in float64."""
    features = tf.cast(features, tf.float64)
    return tf.concat([features, tf.ones([features.shape[0], 1], tf.float64)], -1)


def least_squares(features: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Minimises `|features W - y|^2`.

    Args:
        features: `[examples, features]`.
        y: targets `[examples, outputs]`.

    Returns:
        `W [features, outputs]`.
    """
    gram = tf.matmul(features, features, transpose_a=True)
    ridge = RIDGE * tf.linalg.trace(gram) / gram.shape[0] * tf.eye(gram.shape[0], dtype=gram.dtype)
    cholesky = tf.linalg.cholesky(gram + ridge)
    return tf.linalg.cholesky_solve(cholesky, tf.matmul(features, tf.cast(y, gram.dtype), transpose_a=True))


def logistic(features: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Minimises the cross-entropy of `softmax(features W)` with accelerated gradient steps.

    It uses Nesterov's method from zero, for `EPOCHS` epochs of the whole batch. The step size
    follows from a bound on the curvature.

    Args:
        features: `[examples, features]`.
        y: one-hot targets `[examples, classes]`.

    Returns:
        `W [features, classes]`.
    """
    y = tf.cast(y, features.dtype)
    # The largest row sum bounds the largest eigenvalue; softmax adds a factor of 1/2.
    products = tf.matmul(features, features, transpose_b=True)
    curvature = 0.5 * tf.reduce_max(tf.reduce_sum(tf.abs(products), -1))

    def epoch(k, weights, ahead):
        slope = tf.matmul(features, tf.nn.softmax(tf.matmul(features, ahead)) - y, transpose_a=True)
        new = ahead - slope / curvature
        momentum = tf.cast(k, features.dtype) / tf.cast(k + 3, features.dtype)
        return k + 1, new, new + momentum * (new - weights)

    start = tf.zeros([features.shape[1], y.shape[1]], features.dtype)
    return tf.while_loop(lambda k, *_: k < EPOCHS, epoch, (tf.constant(0), start, start), maximum_iterations=EPOCHS)[1]


FITS: dict[Callable, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    losses.mean_squared_error: least_squares,
    losses.cross_entropy: logistic,
}
