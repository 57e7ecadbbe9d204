"""Checks of what the author of a learner or a task wrote, before anything is trained or written."""

from typing import Any

import tensorflow as tf

from flp_tf.errors import ContractError
from flp_tf.learners.base import Learner
from flp_tf.lifetime.loop import as_tensors, specs
from flp_tf.lifetime.pure import PureStep, pure, references
from flp_tf.tasks.base import Episode, Task

# Lifetimes that are drawn: two, so that a missing axis of lifetimes shows.
LIFETIMES = 2


def check_contracts(learner: Learner, task: Task) -> None:
    """Draws an episode and takes an inner step, as graphs that never run.

    Args:
        learner: with its weights.
        task: its task.

    Raises:
        ContractError: if the task returns an episode of other shapes than it declares; if
            anything is drawn otherwise than from the seeds; if a step is not pure, or
            changes the form of the state; if a state has no leading axis of lifetimes; or
            if the learner computes with a weight that `Learner.variables` does not have,
            which would neither be trained nor saved.
    """

    def sample(seed: tf.Tensor) -> Episode:
        return task.sample(seed, 0, LIFETIMES, "train")

    def whole(episode: Episode) -> Any:
        state = _state(learner, episode)
        features, y = learner.encode(episode.support_x[0]), episode.support_y[0]
        after = PureStep(learner.learn, state, features, y).learn(state, features, y)
        outputs = learner.predict(after, learner.encode(episode.query_x))
        _check_shape(f"{_name(learner)}.predict", outputs, [LIFETIMES, task.query_examples, task.num_outputs])
        errors = task.concept_errors(outputs, episode.query_y)
        _check_shape(f"{_name(task)}.concept_errors", errors, [LIFETIMES, task.num_concepts])
        return outputs, errors, learner.penalty()

    _, sampled = pure(sample, f"{_name(task)}.sample_lifetime", tf.TensorSpec([], tf.int32))
    _, graph = pure(whole, _name(learner), Episode(*specs(sampled.structured_outputs)))
    known = {ref for weight in learner.variables.values() for ref in references(weight.value)}
    for variable in graph.variables:
        if not references(variable) & known:
            raise ContractError(
                f"{_name(learner)} computes with {variable.name}, of shape {variable.shape}, which is no attribute of "
                "it that can be found; keep weights as keras.Variable, in attributes without an underscore, and build "
                "layers in the constructor"
            )


def _state(learner: Learner, episode: Episode) -> Any:
    """Returns the initial state; raises ContractError for a tensor of it without an axis of lifetimes."""
    state = as_tensors(learner.initial_state(episode.seed), f"the state that {_name(learner)}.initial_state returns")
    for part in tf.nest.flatten(state):
        if part.shape.rank == 0 or not part.shape[:1].is_compatible_with([LIFETIMES]):
            raise ContractError(
                f"{_name(learner)}.initial_state returned a tensor of shape {part.shape} for {LIFETIMES} lifetimes; "
                f"expected [{LIFETIMES}, ...]: a leading axis of lifetimes"
            )
    return state


def _check_shape(what: str, tensor: tf.Tensor, expected: list[int]) -> None:
    if not tensor.shape.is_compatible_with(expected):
        raise ContractError(f"{what} returned shape {tensor.shape.as_list()}; expected {expected}")


def _name(part: Any) -> str:
    return type(part).__name__
