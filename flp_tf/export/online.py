"""A learner with its state in variables, and its signatures."""

from typing import Any

import tensorflow as tf

from flp_tf.export.functions import Functions, Named, initial_state
from flp_tf.learners.base import Learner


class Checked(Functions):
    """Functions whose inner step refuses `x` and `y` with different numbers of rows."""

    def learn(self, x: tf.Tensor, y: tf.Tensor, **state: tf.Tensor) -> Named:
        """Takes an inner step; see `Functions.learn`."""
        rows = [tf.shape(part)[0] for part in (x, y)]
        tf.debugging.assert_equal(*rows, "x and y need as many rows as each other: a target for every example")
        return super().learn(x, y, **state)


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
        state = tf.nest.map_structure(lambda value: tf.Variable(value, trainable=False), initial_state(learner))
        self._variables = tf.nest.flatten(state)
        self.state = _with_text_keys(state)
        self.steps = tf.Variable(0, trainable=False, dtype=tf.int32)
        self._functions = Checked(learner)
        self._of_state = of_state = self._functions.concrete()
        x, y = self._functions.x, self._functions.y

        def predict(x: tf.Tensor) -> tf.Tensor:
            """Returns the outputs `[batch, outputs]` of the present state."""
            return of_state["predict"](x=x, **self._read())["outputs"]

        def learn(x: tf.Tensor, y: tf.Tensor) -> None:
            """Takes one inner step on a batch of any size."""
            self._write(of_state["learn"](x=x, y=y, **self._read()))
            self.steps.assign_add(1)

        def reset() -> None:
            """Starts a new lifetime."""
            self._write(of_state["initial_state"]())
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
        return found | {
            "initial_state": self._of_state["initial_state"],
            "learn_from": self._of_state["learn"],
            "predict_from": self._of_state["predict"],
        }

    def _read(self) -> Named:
        """Returns the present state by name."""
        return {name: variable[0] for name, variable in zip(self._functions.state, self._variables)}

    def _write(self, state: Named) -> None:
        for name, variable in zip(self._functions.state, self._variables):
            variable.assign(state[name][None])


def _with_text_keys(state: Any) -> Any:
    """Returns a nested state whose keys are texts: a SavedModel holds no others."""
    if isinstance(state, dict):
        return {str(key): _with_text_keys(part) for key, part in state.items()}
    if isinstance(state, (list, tuple)):
        return [_with_text_keys(part) for part in state]
    return state
