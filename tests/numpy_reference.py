"""FLP written out in NumPy, sample by sample, without any code of the library.

Weights are a list of layers as `helpers.weights_by_layer` names them. All functions
also take complex weights, for derivatives by complex step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class Lifetime(NamedTuple):
    """What a lifetime leaves: outputs before each update, fast weights of all layers."""

    outputs: np.ndarray
    fast: list[np.ndarray]


def relu(u: np.ndarray) -> np.ndarray:
    return np.where(u.real > 0, u, 0.0)


def forward(weights: list[dict[str, Any]], fast: list[np.ndarray], x: np.ndarray) -> list[np.ndarray]:
    """Returns `[h_0, ..., h_L]` for examples `[batch, in]`; the last layer is linear."""
    h = [x]
    for i, layer in enumerate(weights):
        u = h[-1] @ fast[i] + layer["b"]
        h.append(u if i == len(weights) - 1 else relu(u))
    return h


def lifetime(
    weights: list[dict[str, Any]],
    xs: np.ndarray,
    ys: np.ndarray,
    *,
    rule: str = "oja",
    feedback_signal: str = "error",
    clamp_output: bool = False,
    presynaptic: str = "pre_feedback",
    feedback_activation: str = "relu",
    plasticity_scale: float = 1.0,
    hidden_plasticity_factor: float = 1.0,
) -> Lifetime:
    """Runs one lifetime on `xs [T, batch, in]` and `ys [T, batch, outputs]`."""
    last = len(weights) - 1
    fast = [layer["W"] for layer in weights]
    outputs = []
    for x, y in zip(xs, ys):
        h = forward(weights, fast, x)
        outputs.append(h[-1])
        f = y - h[-1] if feedback_signal == "error" else y
        p = list(h)
        for i, layer in enumerate(weights):
            if "B" in layer:
                z = f
                for kernel, bias in zip(layer["B"], layer["c"]):
                    z = z @ kernel + bias
                    z = relu(z) if feedback_activation == "relu" else z
                p[i + 1] = (1 - layer["beta"]) * h[i + 1] + layer["beta"] * z
        if clamp_output:
            p[-1] = y
        before = p if presynaptic == "post_feedback" else h
        new = list(fast)
        for i, layer in enumerate(weights):
            if "a" in layer:
                alpha = plasticity_scale * layer["a"] * (1.0 if i == last else hidden_plasticity_factor)
                new[i] = fast[i] + alpha * local_update(rule, fast[i], before[i], p[i + 1])
        fast = new
    return Lifetime(np.array(outputs), fast)


def local_update(rule: str, kernel: np.ndarray, pre: np.ndarray, post: np.ndarray) -> np.ndarray:
    """Returns Oja's or Hebb's direction, one sample and one synapse after the other."""
    direction = np.zeros(kernel.shape, np.result_type(kernel, pre, post))
    for n in range(len(pre)):
        for i in range(kernel.shape[0]):
            for j in range(kernel.shape[1]):
                direction[i, j] += pre[n, i] * post[n, j]
                if rule == "oja":
                    direction[i, j] -= kernel[i, j] * post[n, j] ** 2
    return direction


def mean_squared_error(outputs: np.ndarray, y: np.ndarray) -> complex:
    return np.mean((outputs - y) ** 2)


def cross_entropy(outputs: np.ndarray, y: np.ndarray) -> complex:
    return np.mean(np.log(np.sum(np.exp(outputs), -1)) - np.sum(outputs * y, -1))


def derivative(function: Callable[[Any], complex], weights: Any, leaf: int, index: tuple[int, ...]) -> float:
    """Returns a function's derivative with respect to one entry of its weights.

    A complex step is a finite difference without the difference: there is nothing to
    cancel, so the step can be tiny and the derivative is exact to rounding.

    Args:
        function: maps the weights to a number.
        weights: a structure of arrays.
        leaf: which of the arrays, flattened.
        index: which of its entries.
    """
    step = 1e-40
    leaves = [np.array(weight, complex) for weight in tf.nest.flatten(weights)]
    leaves[leaf][index] += 1j * step
    return function(tf.nest.pack_sequence_as(weights, leaves)).imag / step
