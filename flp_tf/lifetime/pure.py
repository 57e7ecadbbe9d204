"""Inner steps as pure functions: what is traced once, and what is refused."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

# The only place that says whether a tape watches a tensor, and the only list of which
# operations have side effects or a hidden state.
from tensorflow.python.eager import record
from tensorflow.python.framework import op_def_registry

from flp_tf.errors import ContractError
from flp_tf.lifetime.loop import specs

# Stateful operations that give the same result twice, and change nothing.
HARMLESS = {
    "Assert",
    "Case",
    "CheckNumerics",
    "CheckNumericsV2",
    "DeepCopy",
    "DisableCopyOnRead",
    "Empty",
    "GuaranteeConst",
    "If",
    "LookupTableFindV2",
    "LookupTableSizeV2",
    "Print",
    "PrintV2",
    "ReadVariableOp",
    "ResourceGather",
    "ResourceGatherNd",
    "StatefulPartitionedCall",
    "StatelessRandomGetAlg",
    "VarHandleOp",
    "VarIsInitializedOp",
    "VariableShape",
    "While",
}
# Operations that may give another result the second time, though TensorFlow does not list them as stateful.
HARMFUL = {"FractionalAvgPool", "FractionalMaxPool", "PyFuncStateless"}


class PureStep:
    """An inner step as one graph, traced once.

    Both passes over a lifetime run the same graph, so that what Python draws or decides
    while the step is traced is the same in both.

    Args:
        learn: the inner step.
        state: an example of a state.
        features: of one step's features.
        y: of one step's targets.

    Attributes:
        learn: the step.
        variables: references to the variables that it reads.

    Raises:
        ContractError: if two calls of the step could differ, or it returns a state of
            another form than it is given.
    """

    def __init__(self, learn: Callable, state: Any, features: tf.Tensor, y: tf.Tensor):
        self.learn, concrete = pure(learn, "learn", state, features, y)
        self.variables = set().union(*map(references, concrete.variables))
        _check_form(specs(state), concrete.structured_outputs)


def pure(function: Callable, name: str, *example: Any) -> tuple[Callable, Any]:
    """Returns a function as one graph, compiled for an example of its arguments, and that graph.

    Args:
        function: the function.
        name: what messages call it.
        *example: tensors, or their shapes and types, in the structure of its arguments.

    Raises:
        ContractError: if two calls of the function could differ, or it uses a tensor that
            was computed outside of it from what may have gradients.
    """
    compiled = tf.function(function, autograph=False)
    concrete = compiled.get_concrete_function(*specs(example))
    graph = concrete.graph.as_graph_def()
    operations = {node.op for part in (graph.node, *(f.node_def for f in graph.library.function)) for node in part}
    if found := sorted(filter(_is_impure, operations)):
        raise ContractError(
            f"{name} is no pure function: it runs {', '.join(found)}. Draw random numbers by tf.random.stateless_*, "
            "from the seed that is given or that initial_state puts in the state, and return what changes as part of "
            "the state"
        )
    if any(_has_history(tensor) for tensor, _ in concrete.graph.captures if tensor.dtype.is_floating):
        raise ContractError(
            f"{name} uses a tensor that was computed outside of it and is none of its arguments, so that no gradient "
            f"would reach what it was computed from; compute it within {name}, or put it in the state"
        )
    return compiled, concrete


def _has_history(tensor: tf.Tensor) -> bool:
    """Returns whether a tensor may have gradients: one that a graph computes, or that a tape watches."""
    while tf.is_symbolic_tensor(tensor):
        outside = {id(inner): outer for outer, inner in getattr(tensor.graph, "captures", ())}
        if id(tensor) not in outside:
            return tensor.op.type != "Const"
        tensor = outside[id(tensor)]
    return record.should_record_backprop([tensor])


def references(variable: tf.Variable) -> set:
    """Returns references to a variable: with several devices, to its copy on each of them."""
    return {part.ref() for part in getattr(variable, "values", (variable,))}


def _is_impure(operation: str) -> bool:
    """Returns whether an operation changes something, or may give another result the second time."""
    definition = op_def_registry.get(operation)  # None for a function of the graph's own library.
    stateful = definition is not None and definition.is_stateful
    return operation in HARMFUL or (stateful and operation not in HARMLESS and not operation.startswith("TensorArray"))


def _check_form(given: Any, returned: Any) -> None:
    """Raises ContractError unless a returned state has the structure, shapes and types of the given one."""
    try:
        tf.nest.assert_same_structure(given, returned)
    except (TypeError, ValueError):
        raise ContractError(f"learn was given a state of {_form(given)} and returned {_form(returned)}") from None
    for before, after in zip(tf.nest.flatten(given), tf.nest.flatten(specs(returned))):
        if before.dtype != after.dtype or not before.shape.is_compatible_with(after.shape):
            raise ContractError(f"learn was given a state with {before} and returned {after} in its place")


def _form(structure: Any) -> str:
    """Returns the keys and types of a state, such as `{"layer": {"kernel"}}`, in one line."""
    if isinstance(structure, dict):
        return "{" + ", ".join(f'"{key}": {_form(value)}' for key, value in structure.items()) + "}"
    if isinstance(structure, (list, tuple)):
        return f"{type(structure).__name__}({', '.join(map(_form, structure))})"
    return f"{structure.dtype.name}{structure.shape}" if hasattr(structure, "dtype") else repr(structure)
