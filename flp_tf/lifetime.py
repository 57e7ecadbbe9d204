"""The lifetime: the one loop over inner steps, and its memory-lean gradient.

A lifetime is `state_{t+1} = learner.learn(state_t, x_t, y_t)` for T steps (paper,
section 3). The engine knows nothing of the learner: it differentiates whatever
`learn` does, with a `GradientTape` of its own inside the reverse loop.

Back-propagation through a plain loop keeps every step's activities and fast weights:
memory grows with T. Here the lifetime is cut into about sqrt(T) segments; the forward
pass keeps the fast weights at their borders alone, and the reverse pass runs a
segment again to differentiate it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from flp_tf.learners.base import Learner
from flp_tf.tasks.base import Episode

AUTO = 0
PLAIN = -1

# Up to this many bytes of trunk activities the trunk runs over the whole lifetime in
# one go; beyond it, over one segment at a time, so that memory grows with sqrt(T).
HOISTED_BYTES = 128 * 2**20

# Lifetimes whose fast weights, over all steps, take no more than this are plain ones:
# recomputation would cost a third of the time to save memory that nobody misses. XLA
# keeps four to five copies (activities, updates), so the peak is that much higher.
PLAIN_BYTES = 48 * 2**20


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
) -> Lifetime:
    """Runs a learner through the support data of an episode.

    Args:
        learner: how the network changes on one inner step.
        episode: time-major data, `support_x [T, lifetimes, batch, ...]`.
        state: fast weights to start from; the learner's initial state by default.
        segment_length: inner steps between two kept states. `PLAIN` keeps everything;
            `AUTO` does so for small lifetimes, and takes about sqrt(T) for others.
        trace: `trace(t, state, features, y, new_state)` returns tensors to record at
            step t. A traced lifetime is a plain one.

    Returns:
        The final state, and the traces.
    """
    support_x, support_y = episode.support_x, episode.support_y
    if state is None:
        state = learner.initial_state(support_x.shape[1])
    steps = support_x.shape[0]
    if segment_length == AUTO:
        small = steps * _bytes(state) <= PLAIN_BYTES
        segment_length = PLAIN if small else automatic_segment_length(steps)
    if trace is not None or segment_length == PLAIN:
        return _unroll(learner.learn, state, learner.encode(support_x), support_y, trace)
    length = min(segment_length, steps)
    if hoists_trunk(learner, support_x):

        def segment(state, features, y):
            return _unroll(learner.learn, state, features, y).state

        inputs = learner.encode(support_x)
    else:

        def segment(state, x, y):
            return _unroll(learner.learn, state, learner.encode(x), y).state

        inputs = support_x
    whole = steps - steps % length
    state = _checkpointed(segment, state, inputs[:whole], support_y[:whole], length)
    if whole < steps:
        state = _checkpointed(segment, state, inputs[whole:], support_y[whole:], steps - whole)
    return Lifetime(state)


def automatic_segment_length(steps: int) -> int:
    """Returns the length that keeps the fewest states: `sqrt(steps)`, rounded up."""
    return math.isqrt(steps - 1) + 1 if steps > 1 else 1


def _bytes(state) -> int:
    """Returns the size of the fast weights of all lifetimes."""
    return sum(fast.shape.num_elements() * fast.dtype.size for fast in tf.nest.flatten(state))


def hoists_trunk(learner: Learner, x: tf.Tensor) -> bool:
    """Returns whether the trunk runs over a whole lifetime `x [T, lifetimes, batch, ...]` in one go."""
    examples = math.prod(x.shape[:3])
    return examples * learner.network.trunk_units * x.dtype.size <= HOISTED_BYTES


def _unroll(learn, state, inputs, targets, trace=None) -> Lifetime:
    """The loop over inner steps; everything else in this module is about memory."""
    steps = inputs.shape[0]
    arrays = ()
    if trace is not None:
        specs = (
            tf.function(trace)
            .get_concrete_function(*_specs((tf.constant(0), state, inputs[0], targets[0], state)))
            .structured_outputs
        )
        arrays = tf.nest.map_structure(lambda spec: tf.TensorArray(spec.dtype, steps, element_shape=spec.shape), specs)

    def step(t, state, arrays):
        x, y = inputs[t], targets[t]
        new_state = learn(state, x, y)
        if trace is not None:
            values = trace(t, state, x, y, new_state)
            arrays = tf.nest.map_structure(lambda array, value: array.write(t, value), arrays, values)
        return t + 1, new_state, arrays

    _, state, arrays = tf.while_loop(
        lambda t, *_: t < steps, step, (tf.constant(0), state, arrays), maximum_iterations=steps
    )
    return Lifetime(state, trace and tf.nest.map_structure(lambda array: array.stack(), arrays))


def _specs(structure):
    return tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), structure)


def _checkpointed(segment, state, inputs, targets, length):
    """Runs `segment` over pieces of `length` steps; its gradient runs them again."""
    count = inputs.shape[0] // length
    flat_state = tf.nest.flatten(state)
    pieces_x, pieces_y = (tf.reshape(data, [count, length, *data.shape[1:]]) for data in (inputs, targets))

    @tf.custom_gradient
    def forward(pieces_x, pieces_y, *flat_state):
        def advance(k, flat, borders):
            borders = [array.write(k, fast) for array, fast in zip(borders, flat)]
            return k + 1, _flat_segment(segment, state, flat, pieces_x[k], pieces_y[k]), borders

        borders = [tf.TensorArray(fast.dtype, count, element_shape=fast.shape) for fast in flat_state]
        _, final, borders = tf.while_loop(
            lambda k, *_: k < count, advance, (tf.constant(0), list(flat_state), borders), maximum_iterations=count
        )
        borders = [array.stack() for array in borders]

        def backward(*cotangents, variables=()):
            return _reverse(segment, state, borders, pieces_x, pieces_y, cotangents, list(variables))

        return final, backward

    return tf.nest.pack_sequence_as(state, forward(pieces_x, pieces_y, *flat_state))


def _flat_segment(segment, like, flat, x, y) -> list[tf.Tensor]:
    return tf.nest.flatten(segment(tf.nest.pack_sequence_as(like, flat), x, y))


def _reverse(segment, like, borders, pieces_x, pieces_y, cotangents, variables):
    """Walks the segments backwards, differentiating each from its kept border."""
    count = pieces_x.shape[0]

    def retreat(k, cotangents, sums, input_gradients):
        flat = [border[k] for border in borders]
        x, y = pieces_x[k], pieces_y[k]
        with tf.GradientTape() as tape:
            tape.watch((flat, x))
            end = _flat_segment(segment, like, flat, x, y)
        gradients = tape.gradient(
            end, (flat, x, variables), output_gradients=cotangents, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        sums = [total + gradient for total, gradient in zip(sums, gradients[2])]
        return k - 1, gradients[0], sums, input_gradients.write(k, gradients[1])

    sums = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
    input_gradients = tf.TensorArray(pieces_x.dtype, count, element_shape=pieces_x.shape[1:])
    _, cotangents, sums, input_gradients = tf.while_loop(
        lambda k, *_: k >= 0,
        retreat,
        (tf.constant(count - 1), list(cotangents), sums, input_gradients),
        maximum_iterations=count,
    )
    gradients = (input_gradients.stack(), None, *cotangents)
    return (gradients, sums) if variables else gradients
