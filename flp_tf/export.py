"""Export: a SavedModel of the meta-learned network that goes on learning."""

from pathlib import Path

import tensorflow as tf

from flp_tf.learners.base import Learner


class OnlineLearner(tf.Module):
    """A network at birth, and the life it leads; no flp_tf is needed to load it.

    Args:
        learner: the meta-learned learner.
    """

    def __init__(self, learner: Learner):
        super().__init__("online_learner")
        network = learner.network
        self.slow = [weight.value for weight in network.weights]
        self.fast = [
            tf.Variable(fast, trainable=False, name=f"fast_{i}") for i, fast in enumerate(learner.initial_state())
        ]
        dtype = network.compute_dtype
        x = tf.TensorSpec([None, *network.example_shape], dtype, name="x")
        y = tf.TensorSpec([None, network.head[-1].units], dtype, name="y")

        def predict(x):
            """Outputs `[batch, outputs]` under the present fast weights."""
            return learner.predict(self._state(), learner.encode(x))

        def learn(x, y):
            """Makes one inner step on a batch of any size."""
            for variable, fast in zip(self.fast, learner.learn(self._state(), learner.encode(x), y)):
                variable.assign(fast)

        def reset():
            """Starts a new lifetime from the slow weights."""
            for variable, fast in zip(self.fast, learner.initial_state()):
                variable.assign(fast)

        self.predict = tf.function(predict, input_signature=[x], autograph=False)
        self.learn = tf.function(learn, input_signature=[x, y], autograph=False)
        self.reset = tf.function(reset, input_signature=[], autograph=False)

    def _state(self) -> tuple[tf.Tensor, ...]:
        return tuple(tf.convert_to_tensor(fast) for fast in self.fast)


def export(learner: Learner, path: str | Path) -> None:
    """Writes a SavedModel with `predict(x)`, `learn(x, y)` and `reset()`.

    Args:
        learner: the meta-learned learner.
        path: folder of the SavedModel.
    """
    tf.saved_model.save(OnlineLearner(learner), str(path))
