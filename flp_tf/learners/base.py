"""The contract between methods on one side, tasks and lifetimes on the other."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import tensorflow as tf

from flp_tf import networks
from flp_tf.component import GROUPS, group_of, named_variables
from flp_tf.networks import Network
from flp_tf.registry import Choice, option

PRECISIONS = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class LearnerOptions:
    """Options of every method."""

    network: str = option("sine_compact", networks.ARCHITECTURES.text)
    num_plastic_layers: int = option(2, "Plastic layers, from the output down.")
    trunk_precision: str = option(
        "float32",
        "Arithmetic of the trunk; fast weights are float32. bfloat16 needs a processor with instructions for it: "
        "without them convolutions take several times as long.",
        legal=PRECISIONS,
    )


class Learner(abc.ABC):
    """A network that learns online (paper, section 4).

    The contract of an inner step: `initial_state(seeds) -> state`, `learn(state, features,
    y) -> state`, `predict(state, features) -> outputs`. The state is any nest of tensors,
    each with a leading axis of lifetimes. `learn` is a pure function and otherwise free:
    it may decay, clip, keep momentum or traces. Whatever it draws must come from a seed
    that `initial_state` puts in the state.

    A learner may have weights of its own, as `keras.Variable` attributes: what is trained,
    saved and exported is `variables`, all variables that its attributes hold.

    Args:
        network: trunk and plastic head.

    Attributes:
        uses: the flags of the components that it is made of.
        trains: the groups of meta-learned weights that it has beside those of its components.
        label: the method's name in figures and tables.
    """

    Options: ClassVar[type] = LearnerOptions
    uses: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[tuple[str, ...]] = ("slow", "plasticity")
    label: ClassVar[str] = ""

    def __init__(self, network: Network):
        self.network = network

    @classmethod
    @abc.abstractmethod
    def from_options(cls, task: Any, options: Any, parts: Mapping[str, Choice], dtype: str = "float32") -> "Learner":
        """Returns the learner of a configuration, with fresh weights.

        Args:
            task: a `Task`; `input_shape`, `num_outputs` and `loss` are all that is used of it.
            options: an instance of `Options`.
            parts: the chosen components of the registries in `uses`, by flag.
            dtype: of weights and activities.

        Raises:
            InputError: naming the flag that does not fit the network.
        """

    def initial_state(self, seeds: tf.Tensor | None = None) -> Any:
        """Returns the state before the first inner step.

        Args:
            seeds: one stateless seed per lifetime, int32 `[lifetimes, 2]`; None for one
                lifetime without a leading axis.
        """
        return self.network.initial_state(seeds)

    def encode(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the trunk's features, which no inner step changes."""
        return self.network.encode(x)

    @abc.abstractmethod
    def learn(self, state: Any, features: tf.Tensor, y: tf.Tensor) -> Any:
        """Returns the state after one inner step; a pure function.

        Args:
            state: as from `initial_state`.
            features: `encode` of the inner step's examples, `[lifetimes, batch, ...]`.
            y: their targets `[lifetimes, batch, outputs]`.
        """

    def predict(self, state: Any, features: tf.Tensor) -> tf.Tensor:
        """Returns outputs `[lifetimes, batch, outputs]`; changes nothing."""
        return self.network.activities(state, features)[-1]

    def penalty(self) -> tf.Tensor | float:
        """Returns what is added to the outer loss: 0, unless the initial distribution has a penalty."""
        return sum(layer.penalty() for layer in self.network.head)

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """Every variable by its path: what is saved, restored and exported."""
        return named_variables(self)

    @property
    def trainable(self) -> dict[str, keras.Variable]:
        """The meta-learned ones of `variables`: those that `trainable = False` of weight or layer does not exclude."""
        return {path: variable for path, variable in self.variables.items() if variable.trainable}

    def groups(self) -> dict[str, dict[str, keras.Variable]]:
        """The meta-learned weights by group (`component.GROUPS`), each with outer rates of its own."""
        groups: dict[str, dict[str, keras.Variable]] = {name: {} for name in GROUPS}
        for path, variable in self.trainable.items():
            groups[group_of(path)][path] = variable
        return {name: weights for name, weights in groups.items() if weights}


def network_of(task: Any, options: LearnerOptions, plastic_options: Any, dtype: str) -> Network:
    """Returns the network that the options of a method describe, for a task.

    Args:
        task: gives the shapes.
        options: of the method.
        plastic_options: see `networks.build`.
        dtype: of weights and activities.
    """
    return networks.build(
        networks.parse(options.network),
        task.input_shape,
        task.num_outputs,
        options.num_plastic_layers,
        plastic_options,
        trunk_dtype="mixed_bfloat16" if options.trunk_precision == "bfloat16" else None,
        dtype=dtype,
    )
