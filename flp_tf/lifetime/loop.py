"""The one loop over inner steps (paper, section 4)."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from flp_tf.errors import ContractError


def run_steps(
    learn: Callable, state: Any, inputs: tf.Tensor, targets: tf.Tensor, record: Callable, arrays: Any
) -> tuple[Any, Any]:
    """Runs the inner steps of a lifetime or a part of one.

    Args:
        learn: the inner step.
        state: before the first step.
        inputs: features of every step.
        targets: their targets.
        record: `record(t, state, features, y, new_state)` returns what to write.
        arrays: `tf.TensorArray`s to write to, in the structure that `record` returns.

    Returns:
        The last state, and the arrays.
    """
    steps = inputs.shape[0]

    def step(t, state, arrays):
        x, y = inputs[t], targets[t]
        new_state = learn(state, x, y)
        values = record(t, state, x, y, new_state)
        return t + 1, new_state, write(arrays, t, values)

    return counted_while(lambda t: t < steps, step, (0, state, arrays), steps)


def counted_while(condition: Callable, body: Callable, start: tuple, iterations: int) -> list:
    """A `tf.while_loop` that counts in its first variable, which is not returned."""
    _, *results = tf.while_loop(
        lambda i, *_: condition(i), body, (tf.constant(start[0]), *start[1:]), maximum_iterations=iterations
    )
    return results


def specs(structure: Any) -> Any:
    """Returns the shapes and types of a structure of tensors."""
    return tf.nest.map_structure(lambda part: tf.TensorSpec(part.shape, part.dtype), structure)


def as_tensors(state: Any, of: str) -> Any:
    """Returns a state with tensors in place of arrays and numbers.

    Args:
        state: any nest.
        of: what returned it, for the message.

    Raises:
        ContractError: if a part is none that a tensor can be made of.
    """

    def tensor(part):
        try:
            return tf.convert_to_tensor(part)
        except (TypeError, ValueError):
            raise ContractError(f"{of} has {part!r} in it, which is no tensor; leave it out, or put a number") from None

    return tf.nest.map_structure(tensor, state)


def arrays_like(structure: Any, size: int) -> Any:
    """Returns `tf.TensorArray`s for `size` structures of tensors, to be read as often as it takes."""

    def like(part):
        return tf.TensorArray(part.dtype, size, element_shape=part.shape, clear_after_read=False)

    return tf.nest.map_structure(like, structure)


def write(arrays: Any, i: tf.Tensor, values: Any) -> Any:
    """Returns the arrays with a structure of tensors at place `i`."""
    return tf.nest.map_structure(lambda array, value: array.write(i, value), arrays, values)


def read(arrays: Any, i: tf.Tensor) -> Any:
    """Returns the structure of tensors at place `i`."""
    return tf.nest.map_structure(lambda array: array.read(i), arrays)


def stack(arrays: Any) -> Any:
    """Returns the structure of tensors with all places along a first axis."""
    return tf.nest.map_structure(lambda array: array.stack(), arrays)
