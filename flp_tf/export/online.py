"""A learner with its state in variables, for formats that know no functions of a state."""

from typing import Any

import tensorflow as tf

from flp_tf.learners.base import Learner


class OnlineLearner(tf.Module):
    """A network and the state of one lifetime; no flp_tf is needed to load it.

    Args:
        learner: the meta-learned learner.

    Attributes:
        weights: all variables of the learner, by path.
        state: variables nested as the learner's state is, each with an axis of one lifetime first.
    """

    def __init__(self, learner: Learner):
        super().__init__("online_learner")
        network = learner.network
        self.weights = {path: variable.value for path, variable in learner.variables.items()}
        self.state = tf.nest.map_structure(lambda value: tf.Variable(value, trainable=False), _initial_state(learner))
        dtype = network.compute_dtype
        x = tf.TensorSpec([None, *network.example_shape], dtype, name="x")
        y = tf.TensorSpec([None, network.head[-1].units], dtype, name="y")

        def predict(x: tf.Tensor) -> tf.Tensor:
            """Returns the outputs `[batch, outputs]` of the present state."""
            return learner.predict(self._read(), learner.encode(x[None]))[0]

        def learn(x: tf.Tensor, y: tf.Tensor) -> None:
            """Takes one inner step on a batch of any size."""
            self._write(learner.learn(self._read(), learner.encode(x[None]), y[None]))

        def reset() -> None:
            """Starts a new lifetime."""
            self._write(_initial_state(learner))

        self.predict = tf.function(predict, input_signature=[x], autograph=False)
        self.learn = tf.function(learn, input_signature=[x, y], autograph=False)
        self.reset = tf.function(reset, input_signature=[], autograph=False)

    def _read(self) -> Any:
        return tf.nest.map_structure(tf.convert_to_tensor, self._nested())

    def _write(self, state: Any) -> None:
        for variable, value in zip(tf.nest.flatten(self._nested()), tf.nest.flatten(state), strict=True):
            variable.assign(value)

    def _nested(self) -> Any:
        return self.state


def _initial_state(learner: Learner) -> Any:
    """Returns the initial state of one lifetime; what is drawn in it is the same every time."""
    return learner.initial_state(tf.zeros([1, 2], tf.int32))
