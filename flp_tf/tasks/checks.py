"""Checks of what the author of a task wrote, with messages that say what to change."""

import dataclasses
import inspect
import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from flp_tf.errors import ContractError, InputError
from flp_tf.memory import memory
from flp_tf.registry import MOST_INT, kind

NUMBERS = {
    "num_outputs": "outputs of the network",
    "num_concepts": "parts of an episode, 1 if it has none",
    "steps": "inner steps of a lifetime",
    "batch_size": "examples of one inner step",
    "query_examples": "query examples of an episode",
}
TEXTS = {"concept": "the name of a part of an episode", "unit": "the unit of the error"}
FUNCTIONS = ("loss", "error")
# Shapes of what `sample_lifetime` returns, by field.
SHAPES = {
    "support_x": ("steps", "batch_size", "*input_shape"),
    "support_y": ("steps", "batch_size", "num_outputs"),
    "query_x": ("query_examples", "*input_shape"),
    "query_y": ("query_examples", "num_outputs"),
}
# Lifetimes for which losses are tried.
LIFETIMES = 2


def check_attributes(task: Any) -> None:
    """Checks the attributes that the library uses of a task.

    Args:
        task: a `Task`.

    Raises:
        ContractError: if one is missing or has another type or value, naming it and what is expected.
    """
    shape = _attribute(task, "input_shape", "the shape of one example, a tuple of positive integers")
    if not isinstance(shape, tuple) or not all(map(_is_positive, shape)):
        raise ContractError(f"{_name(task)}.input_shape is {shape!r}; expected a tuple of positive integers")
    for name, text in NUMBERS.items():
        value = _attribute(task, name, f"a positive integer, {text}")
        if not _is_positive(value):
            raise ContractError(f"{_name(task)}.{name} is {value!r}; expected a positive integer, {text}")
    if task.query_examples % task.num_concepts:
        raise ContractError(
            f"{_name(task)}.query_examples is {task.query_examples}; expected a multiple of "
            f"num_concepts, {task.num_concepts}"
        )
    for name, text in TEXTS.items():
        value = _attribute(task, name, f"a text, {text}")
        if not isinstance(value, str):
            raise ContractError(f"{_name(task)}.{name} is {value!r}; expected a text, {text}")
    for name in FUNCTIONS:
        _check_function(task, name)


def check_size(task: Any, lifetimes: int) -> None:
    """Checks that the data of some lifetimes can be drawn at all, before anything is compiled or written.

    Args:
        task: a `Task`.
        lifetimes: of a meta-batch.

    Raises:
        InputError: if a tensor has more numbers than TensorFlow counts in int32, or the
            data take more than the memory of this machine.
    """
    support, query = lifetimes * task.steps * task.batch_size, lifetimes * task.query_examples
    of_example = math.prod(task.input_shape), task.num_outputs
    total = (support + query) * sum(of_example)
    most = min(MOST_INT * len(SHAPES), memory() / tf.float32.size)
    if max(support, query) * max(of_example) > MOST_INT or total > most:
        options = getattr(task, "Options", None)
        fields = dataclasses.fields(options) if options else ()
        flags = [f"--{field.name}" for field in fields if kind(options, field.name) is int]
        raise InputError(
            f"{lifetimes} lifetimes of {_name(task)}, of {task.steps} steps, {task.batch_size} examples per step and "
            f"{task.query_examples} query examples, have {total} numbers; legal are {most:.0f} on this machine, "
            f"and {MOST_INT} in one tensor: lower {', '.join([*flags, '--meta_batch'])}"
        )


def check_lifetime(task: Any, drawn: Any) -> list[tf.Tensor]:
    """Checks what `Task.sample_lifetime` returned.

    Args:
        task: a `Task` whose attributes were checked.
        drawn: what it returned.

    Returns:
        The four tensors in the order of `SHAPES`, their shapes static.

    Raises:
        ContractError: if it is no episode, or a tensor has another type or shape.
    """
    source = f"{_name(task)}.sample_lifetime"
    if not isinstance(drawn, tuple) or not len(SHAPES) <= len(drawn) <= len(SHAPES) + 1:
        raise ContractError(f"{source} returned {_describe(drawn)}; expected Episode({', '.join(SHAPES)})")
    return [
        _check_tensor(task, f"{source}: {field}", field, part, shape)
        for (field, shape), part in zip(SHAPES.items(), drawn)
    ]


def _check_tensor(task: Any, what: str, field: str, part: Any, shape: Sequence[str]) -> tf.Tensor:
    try:
        # Arrays of NumPy are of float64 unless they are told otherwise.
        is_floats = isinstance(part, np.ndarray) and part.dtype.kind == "f"
        tensor = tf.convert_to_tensor(part, tf.float32 if is_floats else None)
    except (TypeError, ValueError) as error:
        raise ContractError(f"{what} is {_describe(part)}; expected a float32 tensor") from error
    if tensor.dtype != tf.float32:
        raise ContractError(f"{what} has type {tensor.dtype.name}; expected float32")
    expected = [size for name in shape for size in _sizes(task, name)]
    if not tensor.shape.is_compatible_with(expected):
        words = ", ".join(shape)
        raise ContractError(f"{what} has shape {_shape(tensor.shape)}; expected [{words}] = {expected}")
    # Named, so that the message about a shape that is known later has the field's name, too.
    return tf.ensure_shape(tensor, expected, name=field)


def _check_function(task: Any, name: str) -> None:
    """Checks that a loss or error takes outputs and targets and gives one number for each lifetime."""
    what, expected = f"{_name(task)}.{name}", "a function of (outputs, y)"
    function = _attribute(task, name, expected)
    if not callable(function):
        raise ContractError(f"{what} is {function!r}; expected {expected}")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        raise ContractError(
            f"{what} does not take (outputs, y); a function that is set on the class needs staticmethod({name})"
        ) from None
    except ValueError:
        pass  # Built-in functions have no signature.
    spec = tf.TensorSpec([LIFETIMES, task.query_examples, task.num_outputs], tf.float32)
    result = tf.function(function, autograph=False).get_concrete_function(spec, spec).structured_outputs
    shape = getattr(result, "shape", None)
    if shape is None or not shape.is_compatible_with([LIFETIMES]):
        raise ContractError(
            f"{what} gives {_describe(result)} for outputs {spec.shape.as_list()}; expected one number for each "
            f"lifetime, shape [{LIFETIMES}]: the mean over the last two axes alone"
        )


def _sizes(task: Any, name: str) -> Sequence[int]:
    return task.input_shape if name == "*input_shape" else (getattr(task, name),)


def _attribute(task: Any, name: str, expected: str) -> Any:
    value = getattr(task, name, None)
    if value is None:
        raise ContractError(f"{_name(task)} has no attribute {name}; expected {expected}")
    return value


def _is_positive(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value > 0


def _name(task: Any) -> str:
    return type(task).__name__


def _shape(shape: tf.TensorShape) -> str:
    return "unknown" if shape.rank is None else str(["?" if size is None else size for size in shape]).replace("'", "")


def _describe(value: Any) -> str:
    """Returns what a value is, in a few words."""
    if hasattr(value, "shape"):
        return f"shape {_shape(tf.TensorShape(value.shape))}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"
