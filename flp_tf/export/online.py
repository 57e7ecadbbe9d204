"""A learner with its state in variables, and its signatures."""

from typing import Any

import tensorflow as tf

from flp_tf.export.functions import Functions, Named, initial_state
from flp_tf.learners.base import Learner


class OnlineLearner(tf.Module):
    """A network and the state of one lifetime; no flp_tf is needed to load it.

    `predict(x)`, `learn(x, y)` and `reset()` use and change the state that the module
    holds. `signatures` has the same with names, and functions of a state that is passed
    in and out, with which one process serves many learners.

    Args:
        learner: the meta-learned learner.

    Attributes:
        weights: all variables of the learner, by path.
        state: variables nested as the learner's state is, each with an axis of one lifetime first.
        steps: inner steps since `reset`.
    """

    def __init__(self, learner: Learner):
        super().__init__("online_learner")
        self.weights = {path: variable.value for path, variable in learner.variables.items()}
        self.state = tf.nest.map_structure(lambda value: tf.Variable(value, trainable=False), initial_state(learner))
        self.steps = tf.Variable(0, trainable=False, dtype=tf.int32)
        self._functions = Functions(learner)
        x, y = self._functions.x, self._functions.y

        def predict(x: tf.Tensor) -> tf.Tensor:
            """Returns the outputs `[batch, outputs]` of the present state."""
            return learner.predict(self._read(), learner.encode(x[None]))[0]

        def learn(x: tf.Tensor, y: tf.Tensor) -> None:
            """Takes one inner step on a batch of any size."""
            self._write(learner.learn(self._read(), learner.encode(x[None]), y[None]))
            self.steps.assign_add(1)

        def reset() -> None:
            """Starts a new lifetime."""
            self._write(initial_state(learner))
            self.steps.assign(0)

        self.predict = tf.function(predict, input_signature=[x], autograph=False)
        self.learn = tf.function(learn, input_signature=[x, y], autograph=False)
        self.reset = tf.function(reset, input_signature=[], autograph=False)

    def signatures(self) -> dict[str, Any]:
        """Returns the signatures of the SavedModel, by name.

        With a state in the model: `predict(x) -> outputs`, `learn(x, y) -> steps`,
        `reset() -> steps`. With a state that is passed: `initial_state() -> STATE`,
        `learn_from(x, y, STATE) -> STATE`, `predict_from(x, STATE) -> outputs`, where STATE
        are the tensors of `Functions.state`.
        """
        x, y = self._functions.x, self._functions.y

        def predict(x: tf.Tensor) -> Named:
            return {"outputs": self.predict(x)}

        def learn(x: tf.Tensor, y: tf.Tensor) -> Named:
            self.learn(x, y)
            return {"steps": self.steps.read_value()}

        def reset() -> Named:
            self.reset()
            return {"steps": self.steps.read_value()}

        stateful = {"predict": (predict, [x]), "learn": (learn, [x, y]), "reset": (reset, [])}
        found = {
            name: tf.function(function, autograph=False).get_concrete_function(*inputs)
            for name, (function, inputs) in stateful.items()
        }
        passed = self._functions.concrete()
        return found | {
            "initial_state": passed["initial_state"],
            "learn_from": passed["learn"],
            "predict_from": passed["predict"],
        }

    def _read(self) -> Any:
        return tf.nest.map_structure(tf.convert_to_tensor, self._nested())

    def _write(self, state: Any) -> None:
        for variable, value in zip(tf.nest.flatten(self._nested()), tf.nest.flatten(state), strict=True):
            variable.assign(value)

    def _nested(self) -> Any:
        return self.state
