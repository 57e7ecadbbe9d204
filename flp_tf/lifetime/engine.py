"""Running a lifetime, and choosing how its gradient is computed."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.learners.base import Learner
from flp_tf.lifetime.loop import arrays_like, as_tensors, run_steps, specs, stack
from flp_tf.lifetime.pure import PureStep
from flp_tf.lifetime.segments import run_in_segments
from flp_tf.tasks.base import Episode

AUTO = 0
PLAIN = -1

# Up to this many bytes of trunk activities the trunk runs over the whole lifetime in
# one go; beyond it, over one segment at a time, so that memory grows with sqrt(T).
HOISTED_BYTES = 128 * 2**20

# Lifetimes whose states, over all steps, take no more than this keep them all:
# running segments again costs a quarter of the time.
KEPT_BYTES = 160 * 2**20


class Lifetime(NamedTuple):
    """What a lifetime leaves.

    Attributes:
        state: the learner's state after the last inner step.
        traces: what `trace` returned at each inner step, stacked to `[steps, ...]`;
            None without a trace.
    """

    state: Any
    traces: Any = None


@tf.autograph.experimental.do_not_convert
def run(
    learner: Learner,
    episode: Episode,
    *,
    state: Any = None,
    segment_length: int = AUTO,
    trace: Callable[..., Any] | None = None,
    encode: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> Lifetime:
    """Runs a learner through the support data of an episode.

    Gradients flow to the support data, the first state and every variable.

    Args:
        learner: how the network changes on one inner step.
        episode: time-major data, `support_x [T, lifetimes, batch, ...]`; NumPy arrays will do.
        state: to start from; the learner's initial state by default.
        segment_length: inner steps between two kept states. `AUTO` takes about sqrt(T),
            or the whole lifetime if that is small. `PLAIN` leaves the gradient to
            TensorFlow, which keeps everything; without a gradient it keeps the state alone.
        trace: `trace(t, state, features, y, new_state)` returns tensors to record at
            step t. A traced lifetime is a plain one.
        encode: maps inputs to features; `learner.encode` by default, `tf.identity` for
            an episode of features.

    Returns:
        The final state, and the traces.

    Raises:
        InputError: if support data and targets do not fit each other, or `segment_length` is below `PLAIN`.
        ContractError: if `learn` returns a state of other structure, shapes or types than
            it was given, or is no pure function: if it assigns a variable, draws random numbers without
            a seed from its arguments, or uses a tensor that was computed outside of it.
    """
    support_x, support_y = (_tensor(part, learner) for part in episode[:2])
    _check(support_x, support_y, segment_length)
    if state is None:
        state = learner.initial_state(_seeds(episode, support_x.shape[1]))
    state = as_tensors(state, "the state of a lifetime")
    steps = support_x.shape[0]
    if encode is not None or trace is not None or hoists_trunk(learner, support_x):
        inputs, encode = (encode or learner.encode)(support_x), tf.identity
    else:
        inputs, encode = support_x, learner.encode
    if trace is not None or segment_length == PLAIN:
        learn = learner.learn if encode is tf.identity else lambda state, x, y: learner.learn(state, encode(x), y)
        return _plain(learn, state, inputs, support_y, trace)
    if segment_length == AUTO:
        segment_length = steps if steps * _bytes(state) <= KEPT_BYTES else automatic_segment_length(steps)
    length = min(segment_length, steps)
    whole = steps - steps % length
    features = inputs[0] if encode is tf.identity else _features(learner, inputs[0])
    step = PureStep(learner.learn, state, features, support_y[0])
    for part, of_part in ((slice(whole), length), (slice(whole, None), steps - whole)):
        if of_part:
            state = run_in_segments(step, encode, state, inputs[part], support_y[part], of_part)
    return Lifetime(state)


def _check(support_x: tf.Tensor, support_y: tf.Tensor, segment_length: int) -> None:
    """Raises InputError unless the data are some steps of as many inputs as targets, and the length is one."""
    if not support_x.shape[0] or support_x.shape[:3] != support_y.shape[:3]:
        raise InputError(
            f"support_x has shape {support_x.shape} and support_y {support_y.shape}; legal are one or more steps, "
            "[steps, lifetimes, batch, ...], alike in both"
        )
    if segment_length < PLAIN:
        raise InputError(f"segment_length={segment_length} is too small; legal are {PLAIN}, {AUTO} and lengths")


def query(learner: Learner, state: Any, episode: Episode, encode: Callable | None = None) -> tf.Tensor:
    """Returns the outputs for an episode's query `[lifetimes, examples, outputs]`; see `run`."""
    return learner.predict(state, (encode or learner.encode)(_tensor(episode.query_x, learner)))


def automatic_segment_length(steps: int) -> int:
    """Returns the length that keeps the fewest states: `sqrt(steps)`, rounded up."""
    return math.isqrt(steps - 1) + 1 if steps > 1 else 1


def hoists_trunk(learner: Learner, x: tf.Tensor) -> bool:
    """Returns whether the trunk runs over a whole lifetime `x [T, lifetimes, batch, ...]` in one go."""
    examples = math.prod(x.shape[:3])
    return examples * learner.network.trunk_units * x.dtype.size <= HOISTED_BYTES


def _features(learner: Learner, x: tf.Tensor) -> tf.TensorSpec:
    """Returns the shape and type of `encode(x)`, without running it."""
    return specs(tf.function(learner.encode, autograph=False).get_concrete_function(specs(x)).structured_outputs)


def _tensor(data: Any, learner: Learner) -> tf.Tensor:
    """Returns a tensor as it is, and an array of floats in the network's type."""
    if tf.is_tensor(data):
        return data
    array = np.asarray(data)
    return tf.convert_to_tensor(array, learner.network.compute_dtype if array.dtype.kind == "f" else None)


def _seeds(episode: Episode, lifetimes: int) -> tf.Tensor:
    """Returns the episode's seeds; those of an episode without any are zero."""
    return tf.zeros([lifetimes, 2], tf.int32) if episode.seed is None else tf.convert_to_tensor(episode.seed)


def _bytes(state: Any) -> int:
    """Returns the size of the state of all lifetimes."""
    return sum(part.shape.num_elements() * part.dtype.size for part in tf.nest.flatten(state))


def _plain(learn: Callable, state: Any, inputs: tf.Tensor, targets: tf.Tensor, trace: Callable | None) -> Lifetime:
    """A plain lifetime, with or without a trace."""
    if trace is None:
        return Lifetime(run_steps(learn, state, inputs, targets, lambda *_: (), ())[0])
    example = specs((tf.constant(0), state, inputs[0], targets[0], state))
    traced = tf.function(trace, autograph=False).get_concrete_function(*example).structured_outputs
    arrays = arrays_like(traced, inputs.shape[0])
    state, arrays = run_steps(learn, state, inputs, targets, trace, arrays)
    return Lifetime(state, stack(arrays))
