"""A learner as functions of a flat state with names, for formats that know no nested state."""

import keyword
import re
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from flp_tf.learners.base import Learner

Named = dict[str, tf.Tensor]
# Names that something else has in a signature, or in Python.
TAKEN = ("self", "x", "y", "outputs", *keyword.kwlist)


class Functions:
    """Initial state, inner step and prediction of one lifetime, as functions of tensors with names.

    The names of the state join the keys of the learner's state by underscores, such as
    `layer_4_kernel`. What would be no name, or that of something else, has `state_` before it;
    where two would be the same, all of them end with a number. Its tensors have no axis of
    lifetimes.

    Args:
        learner: the meta-learned learner.
        batch: examples of an inner step and of a prediction; any number by default.

    Attributes:
        state: shape and type of every tensor of the state, by name.
        x: shape and type of a batch of examples.
        y: the same of their targets.
    """

    def __init__(self, learner: Learner, batch: int | None = None):
        self.learner = learner
        self._form = initial_state(learner)
        flat = tf.nest.flatten(self._form)
        names = _apart([_name(path) for path in _paths(self._form)])
        self.state = {
            name: tf.TensorSpec(part.shape[1:], part.dtype, name) for name, part in zip(names, flat, strict=True)
        }
        network = learner.network
        self.x = tf.TensorSpec([batch, *network.example_shape], network.compute_dtype, name="x")
        self.y = tf.TensorSpec([batch, network.head[-1].units], network.compute_dtype, name="y")

    def initial_state(self) -> Named:
        """Returns the state of a new lifetime."""
        return self._flat(initial_state(self.learner))

    def learn(self, x: tf.Tensor, y: tf.Tensor, **state: tf.Tensor) -> Named:
        """Returns the state after one inner step on a batch of any size."""
        return self._flat(self.learner.learn(self._nested(state), self.learner.encode(x[None]), y[None]))

    def predict(self, x: tf.Tensor, **state: tf.Tensor) -> Named:
        """Returns `outputs [batch, outputs]`."""
        return {"outputs": self.learner.predict(self._nested(state), self.learner.encode(x[None]))[0]}

    def concrete(self) -> dict[str, Any]:
        """Returns `initial_state`, `learn` and `predict` as graphs with named inputs and outputs."""
        inputs = {"initial_state": {}, "learn": {"x": self.x, "y": self.y, **self.state}}
        inputs["predict"] = {"x": self.x, **self.state}
        return {
            name: tf.function(getattr(self, name), autograph=False).get_concrete_function(**of_name)
            for name, of_name in inputs.items()
        }

    def _flat(self, state: Any) -> Named:
        # Named by an identity: a tensor that is passed through would lose its name.
        return {name: tf.identity(part[0]) for name, part in zip(self.state, tf.nest.flatten(state), strict=True)}

    def _nested(self, state: Named) -> Any:
        return tf.nest.pack_sequence_as(self._form, [state[name][None] for name in self.state])


def initial_state(learner: Learner) -> Any:
    """Returns the initial state of one lifetime; what is drawn in it is the same every time."""
    state = learner.initial_state(tf.zeros([1, 2], tf.int32))
    return tf.nest.map_structure(tf.convert_to_tensor, state)


def _name(path: tuple[str, ...]) -> str:
    """Returns the name of the tensor that keys lead to: in ASCII and with a letter first, as signatures need it."""
    name = re.sub(r"\W", "_", "_".join(path), flags=re.ASCII)
    return name if re.match("[A-Za-z]", name) and name not in TAKEN else f"state_{name}".rstrip("_")


def _apart(names: list[str]) -> list[str]:
    """Returns names of which no two are the same, in upper case either, which TensorFlow takes for the same."""
    if len({name.lower() for name in names}) == len(names):
        return names
    return [f"{name}_{i}" for i, name in enumerate(names)]


def _paths(structure: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yields the keys to every tensor of a structure, in the order of `tf.nest.flatten`."""
    if isinstance(structure, dict):
        for key in sorted(structure):
            yield from _paths(structure[key], (*path, str(key)))
    elif isinstance(structure, (list, tuple)):
        for key, part in zip(getattr(structure, "_fields", range(len(structure))), structure):
            yield from _paths(part, (*path, str(key)))
    else:
        yield path
