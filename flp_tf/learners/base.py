"""The contract between methods on one side, tasks and lifetimes on the other."""

import abc

import keras
import tensorflow as tf

from flp_tf.networks import Network
from flp_tf.networks.network import State

GROUPS = ("slow", "feedback", "plasticity", "strength")


class Learner(abc.ABC):
    """A network that learns online: `learn(state, features, y) -> state`.

    A method says in which `direction` an inner step moves every synapse; how far is up
    to the synapse's plasticity: `W <- W + alpha * direction` (paper, section 3).

    All methods work on one lifetime (`features [batch, ...]`) or on a meta-batch of
    them (`features [lifetimes, batch, ...]`, every state with that leading axis).

    Args:
        network: trunk and plastic head.
    """

    def __init__(self, network: Network):
        self.network = network

    def initial_state(self, batch_size: int | None = None) -> State:
        """Returns the fast weights at birth, for `batch_size` lifetimes."""
        return self.network.initial_state(batch_size)

    def encode(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the trunk's features, which no inner step changes."""
        return self.network.encode(x)

    @abc.abstractmethod
    def direction(self, state: State, features: tf.Tensor, y: tf.Tensor) -> State:
        """Returns in which direction one inner step moves the fast weights, shaped like them.

        Args:
            state: fast weights.
            features: `encode` of the inner step's examples, `[..., batch, features]`.
            y: their targets `[..., batch, outputs]`.
        """

    def step(self, state: State, direction: State) -> State:
        """Returns `W + alpha * direction` for every plastic layer.

        Meta-gradients rely on its form: `-direction` takes a step back.
        """
        return tuple(layer.step(*pair) for layer, *pair in zip(self.network.head, state, direction))

    def learn(self, state: State, features: tf.Tensor, y: tf.Tensor) -> State:
        """Returns the state after one inner step; the arguments are those of `direction`."""
        return self.step(state, self.direction(state, features, y))

    def predict(self, state: State, features: tf.Tensor) -> tf.Tensor:
        """Returns outputs `[..., batch, outputs]`; changes nothing."""
        return self.network.activities(state, features)[-1]

    def parameter_groups(self) -> dict[str, list[keras.Variable]]:
        """The meta-learned weights by group (`GROUPS`), each with its own outer rate."""
        groups: dict[str, list[keras.Variable]] = {name: [] for name in GROUPS}
        for layer in self.network.trunk:
            groups["slow"] += layer.trainable_weights
        for layer in self.network.head:
            for name, weights in layer.parameter_groups().items():
                groups[name] += weights
        return groups

    @property
    def meta_parameters(self) -> list[keras.Variable]:
        """All meta-learned weights, in the order of their groups."""
        return [weight for weights in self.parameter_groups().values() for weight in weights]
