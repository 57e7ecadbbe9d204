"""What all parts of a network share: constructor arguments as data, and weights by name."""

import contextlib
import copy
import inspect
import random
from collections.abc import Iterator
from typing import Any

import keras

from flp_tf.errors import ContractError

# Groups of meta-learned weights, each with an outer optimizer and a rate of its own.
GROUPS = ("slow", "feedback", "plasticity", "strength", "rule", "initial")

# Arguments of every Keras layer, which configurations and copies have anyway.
OF_LAYERS = ("name", "trainable", "dtype")

# Whether a kernel's plasticity, or spread, has an entry per synapse, (postsynaptic) neuron or layer.
GRANULARITIES = ("per_synapse", "per_neuron", "per_layer")


def granular_shape(granularity: str, kernel_shape: tuple[int, int]) -> tuple[int, int]:
    """Returns the shape of a weight of one of `GRANULARITIES`, broadcastable to `kernel_shape`, `(in, out)`."""
    fan_in, out = kernel_shape
    return {"per_synapse": (fan_in, out), "per_neuron": (1, out), "per_layer": (1, 1)}[granularity]


class Component(keras.layers.Layer):
    """A Keras layer that lists its constructor arguments once.

    `get_config`, `from_config` and `copy.deepcopy` all follow from `arguments`. Subclasses
    are known to Keras by their name and the first word of their module's.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        make_serializable(cls)

    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's own arguments as objects, without those of `keras.layers.Layer`."""
        return {}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments in the serializable form of Keras."""
        arguments = {name: keras.saving.serialize_keras_object(value) for name, value in _arguments(self).items()}
        return {"name": self.name, "trainable": self.trainable, "dtype": _policy(self), **arguments}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Component":
        """Returns a component without weights from what `get_config` returned."""
        return cls(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})

    def __deepcopy__(self, memo: dict[int, Any]) -> "Component":
        """Returns a copy with weights of its own."""
        arguments = copy.deepcopy(_arguments(self), memo)
        twin = type(self)(**arguments, name=self.name, trainable=self.trainable, dtype=_policy(self))
        memo[id(self)] = twin
        if self.built and not twin.built:
            twin.build_from_config(self.get_build_config() or {})
        ours, theirs = named_variables(self), named_variables(twin)
        for path, variable in ours.items():
            theirs[path].assign(variable)
            theirs[path].trainable = variable.trainable
        return twin


def _arguments(component: Component) -> dict[str, Any]:
    """Returns the constructor's arguments: those of `arguments`, and attributes that have the name of a parameter.

    Raises:
        ContractError: if a parameter of the constructor is neither, so that a copy would not have its value.
    """
    found = dict(component.arguments())
    if type(component).__init__ is keras.layers.Layer.__init__:
        return found
    for name, parameter in inspect.signature(type(component).__init__).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) or name in ("self", *found, *OF_LAYERS):
            continue
        if name not in vars(component):
            raise ContractError(
                f"{type(component).__name__} keeps its constructor's argument {name} nowhere that copies find it; "
                f"set self.{name}, or define arguments()"
            )
        found[name] = vars(component)[name]
    return found


def make_serializable(part: Any) -> None:
    """Tells Keras of a class or function, so that configurations may name it."""
    keras.saving.register_keras_serializable(part.__module__.partition(".")[0])(part)


def _policy(layer: keras.layers.Layer) -> str:
    return layer.dtype_policy.name


def named_variables(owner: Any, prefix: str = "") -> dict[str, keras.Variable]:
    """Returns every variable of an object by its path, such as `network/layers/layer_3/feedback/strength`.

    A path joins the names of the attributes, from the object to the variable. Names that
    start with an underscore are passed over; a Keras layer's own weights that are not
    public attributes have the names that the layer gave them. Paths therefore depend
    on neither the order in which layers were made nor on the names that Keras counts up.

    Args:
        owner: a Keras layer, a variable, a list or dictionary of them, or an object with such attributes.
        prefix: what all paths start with.
    """
    found: dict[str, keras.Variable] = {}
    _collect(owner, prefix, found, set())
    return found


def _collect(owner: Any, path: str, found: dict[str, keras.Variable], seen: set[int]) -> None:
    if id(owner) in seen:
        return
    seen.add(id(owner))
    if isinstance(owner, keras.Variable):
        found[path] = owner
        return
    join = f"{path}/" if path else ""
    for name, value in _parts(owner):
        _collect(value, f"{join}{name}", found, seen)
    if isinstance(owner, keras.layers.Layer):
        for variable in owner.variables:
            # Of attributes that are not public, such as the kernel of `keras.layers.Dense`.
            if id(variable) not in seen:
                seen.add(id(variable))
                name, number = f"{join}{variable.name}", 1
                while name in found:
                    name, number = f"{join}{variable.name}_{number}", number + 1
                found[name] = variable


def _parts(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yields the named parts of an object that may have variables."""
    if isinstance(owner, keras.Model):
        yield from ((str(i), layer) for i, layer in enumerate(owner.layers))
    elif isinstance(owner, dict):
        yield from ((str(name), value) for name, value in owner.items())
    elif isinstance(owner, (list, tuple)):
        yield from ((str(i), value) for i, value in enumerate(owner))
    elif hasattr(owner, "__dict__"):
        for name, value in vars(owner).items():
            if not name.startswith("_") and isinstance(value, (keras.layers.Layer, keras.Variable, dict, list, tuple)):
                yield name, value


def group_of(path: str) -> str:
    """Returns the group of a variable: the last word of its path that names one, else `slow`."""
    return next((word for word in reversed(path.split("/")) if word in GROUPS), "slow")


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Makes all weights that are initialized inside a function of `seed` alone.

    Keras initializers without a seed take one from Python's `random`. Its state is put
    back afterwards, so that the caller's random numbers stay what they were.

    Args:
        seed: any integer.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
