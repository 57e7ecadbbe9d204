"""Checks of what the author of a learner or a task wrote, before anything is trained or written."""

from typing import Any

import tensorflow as tf

from flp_tf.errors import ContractError
from flp_tf.learners.base import Learner
from flp_tf.lifetime.pure import PureStep, references
from flp_tf.tasks.base import Task


def check_contracts(learner: Learner, task: Task) -> None:
    """Draws an episode and takes an inner step, as a graph that never runs.

    Args:
        learner: with its weights.
        task: its task.

    Raises:
        ContractError: if the task returns an episode of other shapes than it declares, the
            step is not pure or changes the form of the state, or the learner computes with
            a weight that is none of `Learner.variables`, which would neither be trained
            nor saved.
    """
    known = {ref for weight in learner.variables.values() for ref in references(weight.value)}

    def whole(seed: tf.Tensor) -> Any:
        episode = task.sample(seed, 0, 1, "train")
        state = tf.nest.map_structure(tf.convert_to_tensor, learner.initial_state(episode.seed))
        features, y = learner.encode(episode.support_x[0]), episode.support_y[0]
        PureStep(learner.learn, state, features, y)
        outputs = learner.predict(learner.learn(state, features, y), learner.encode(episode.query_x))
        expected = [1, task.query_examples, task.num_outputs]
        if not outputs.shape.is_compatible_with(expected):
            raise ContractError(f"{_name(learner)}.predict returned shape {outputs.shape}; expected {expected}")
        return outputs, learner.penalty()

    graph = tf.function(whole, autograph=False).get_concrete_function(tf.TensorSpec([], tf.int32))
    for variable in graph.variables:
        if not references(variable) & known:
            raise ContractError(
                f"{_name(learner)} computes with {variable.name}, of shape {variable.shape}, which is no attribute of "
                "it that can be found; keep weights as keras.Variable, in attributes without an underscore"
            )


def _name(learner: Learner) -> str:
    return type(learner).__name__
