"""The lifetime: the one loop over inner steps, and its memory-lean gradient.

A lifetime is `state_{t+1} = state_t + alpha * direction(state_t, x_t, y_t)` for T steps
(paper, section 3). The engine knows nothing of the learner: it differentiates whatever
`direction` and `step` do, with `GradientTape`s of its own inside the reverse loop.

Back-propagation through a plain loop keeps every step's activities, fast weights and
what was computed from them. Here a step leaves its direction alone, and the reverse
loop takes the step back, `state_t = state_{t+1} - alpha * direction_t`, before it
differentiates it. Long lifetimes are cut into about sqrt(T) segments besides: the
forward pass keeps the fast weights at their borders alone, and the reverse pass runs a
segment again for its directions, so that memory grows with the square root of T.
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

# Lifetimes whose directions, over all steps, take no more than this keep them all:
# running segments again costs a quarter of the time, to save memory that nobody misses.
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
) -> Lifetime:
    """Runs a learner through the support data of an episode.

    Args:
        learner: how the network changes on one inner step.
        episode: time-major data, `support_x [T, lifetimes, batch, ...]`.
        state: fast weights to start from; the learner's initial state by default.
        segment_length: inner steps between two kept states. `AUTO` takes about sqrt(T),
            or the whole lifetime if that is small. `PLAIN` leaves the gradient to
            TensorFlow, which keeps everything.
        trace: `trace(t, state, features, y, new_state)` returns tensors to record at
            step t. A traced lifetime is a plain one.

    Returns:
        The final state, and the traces.
    """
    support_x, support_y = episode.support_x, episode.support_y
    if state is None:
        state = learner.initial_state(support_x.shape[1])
    steps = support_x.shape[0]
    if trace is not None or segment_length == PLAIN:
        return _plain(learner, state, learner.encode(support_x), support_y, trace)
    if segment_length == AUTO:
        small = steps * _bytes(state) <= KEPT_BYTES
        segment_length = steps if small else automatic_segment_length(steps)
    length = min(segment_length, steps)
    hoisted = hoists_trunk(learner, support_x)
    encode, inputs = (tf.identity, learner.encode(support_x)) if hoisted else (learner.encode, support_x)
    whole = steps - steps % length
    state = _segmented(learner, encode, state, inputs[:whole], support_y[:whole], length)
    if whole < steps:
        state = _segmented(learner, encode, state, inputs[whole:], support_y[whole:], steps - whole)
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


def _loop(learner, state, inputs, targets, record=lambda *_: (), arrays=()) -> tuple[Any, Any]:
    """The loop over inner steps; everything else in this module is about its gradient.

    Args:
        learner: the learner.
        state: fast weights.
        inputs: features of every step.
        targets: their targets.
        record: `record(t, state, features, y, direction, new_state)` returns what to write.
        arrays: `tf.TensorArray`s to write to, in the structure that `record` returns.

    Returns:
        The last state, and the arrays.
    """
    steps = inputs.shape[0]

    def step(t, state, arrays):
        x, y = inputs[t], targets[t]
        direction = learner.direction(state, x, y)
        new_state = learner.step(state, direction)
        values = record(t, state, x, y, direction, new_state)
        arrays = tf.nest.map_structure(lambda array, value: array.write(t, value), arrays, values)
        return t + 1, new_state, arrays

    return _while(lambda t: t < steps, step, (0, state, arrays), steps)


def _plain(learner, state, inputs, targets, trace) -> Lifetime:
    """A plain lifetime, with or without a trace."""
    if trace is None:
        return Lifetime(_loop(learner, state, inputs, targets)[0])
    example = (tf.constant(0), state, inputs[0], targets[0], state)
    specs = tf.function(trace).get_concrete_function(*tf.nest.map_structure(_spec, example)).structured_outputs
    state, arrays = _loop(
        learner,
        state,
        inputs,
        targets,
        lambda t, state, x, y, direction, new_state: trace(t, state, x, y, new_state),
        tf.nest.map_structure(lambda spec: _array(spec, inputs.shape[0]), specs),
    )
    return Lifetime(state, tf.nest.map_structure(lambda array: array.stack(), arrays))


def _spec(x: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec(x.shape, x.dtype)


def _array(like: tf.Tensor | tf.TensorSpec, size: int) -> tf.TensorArray:
    return tf.TensorArray(like.dtype, size, element_shape=like.shape)


def _segmented(learner, encode, state, inputs, targets, length) -> Any:
    """Runs segments of `length` steps, with a gradient of its own; returns the last state."""
    pieces = [tf.reshape(data, [-1, length, *data.shape[1:]]) for data in (inputs, targets)]

    @tf.custom_gradient
    def forward(pieces_x, pieces_y, *state):
        segments = _Segments(learner, encode, pieces_x, pieces_y)
        final, kept = segments.forward(state)

        def backward(*cotangents, variables=()):
            by_x, by_state, by_variables = segments.backward(final, kept, cotangents, tuple(variables))
            gradients = (by_x, None, *by_state)
            return (gradients, list(by_variables)) if variables else gradients

        return final, backward

    return forward(*pieces, *state)


class _Segments:
    """The segments of a lifetime, forward and backward.

    Args:
        learner: the learner.
        encode: maps inputs to features: the trunk, unless that has run already.
        inputs: `[segments, length, lifetimes, batch, ...]`.
        targets: `[segments, length, lifetimes, batch, outputs]`.
    """

    def __init__(self, learner, encode, inputs, targets):
        self.learner, self.encode, self.inputs, self.targets = learner, encode, inputs, targets
        self.count, self.length = inputs.shape[:2]

    def forward(self, state):
        """Returns the last state, and what `backward` needs to know of the others.

        That is the directions of a single segment, or the states before each of several.
        """
        if self.count == 1:
            return self._with_directions(0, state, self.encode(self.inputs[0]), _arrays(state, self.length))

        def advance(k, state, borders):
            borders = tuple(array.write(k, fast) for array, fast in zip(borders, state))
            return k + 1, _loop(self.learner, state, self.encode(self.inputs[k]), self.targets[k])[0], borders

        return _while(lambda k: k < self.count, advance, (0, state, _arrays(state, self.count)), self.count)

    def backward(self, final, kept, cotangents, variables):
        """Walks the segments backwards; returns gradients by the inputs, the first state and the variables."""
        several = self.count > 1

        def retreat(k, cotangents, sums, arrays, by_inputs):
            x = self.inputs[k]
            with tf.GradientTape() as tape:
                tape.watch(x)
                features = self.encode(x)
            state, directions = final, kept
            if several:
                before = tuple(border.read(k) for border in kept)
                state, directions = self._with_directions(k, before, features, arrays)
                arrays = directions
            cotangents, sums, by_features = self._steps_back(k, state, features, directions, cotangents, sums, variables)
            by_x, by_variables = tape.gradient(features, (x, variables), by_features, tf.UnconnectedGradients.ZERO)
            return k - 1, cotangents, _add(sums, by_variables), arrays, by_inputs.write(k, by_x)

        # Written again by every segment.
        arrays = _arrays(final, self.length) if several else ()
        sums = tuple(tf.zeros(variable.shape, variable.dtype) for variable in variables)
        by_inputs = tf.TensorArray(self.inputs.dtype, self.count, element_shape=self.inputs.shape[1:])
        start = (self.count - 1, cotangents, sums, arrays, by_inputs)
        by_state, sums, _, by_inputs = _while(lambda k: k >= 0, retreat, start, self.count)
        return by_inputs.stack(), by_state, sums

    def _with_directions(self, k, state, features, arrays):
        """Runs segment `k`; returns the state after it, and its directions."""
        return _loop(self.learner, state, features, self.targets[k], lambda t, s, x, y, direction, n: direction, arrays)

    def _steps_back(self, k, state, features, directions, cotangents, sums, variables):
        """Takes the steps of segment `k` back one by one, and differentiates each."""
        learner, targets = self.learner, self.targets[k]

        def step_back(t, state, cotangents, sums, by_features):
            direction = tuple(array.read(t) for array in directions)
            state = learner.step(state, [-d for d in direction])
            with tf.GradientTape() as tape:
                tape.watch((state, direction))
                after = learner.step(state, direction)
            by_state, by_direction, by_step = tape.gradient(
                after, (state, direction, variables), cotangents, tf.UnconnectedGradients.ZERO
            )
            x = features[t]
            with tf.GradientTape() as tape:
                tape.watch((state, x))
                again = learner.direction(state, x, targets[t])
            gradients = tape.gradient(again, (state, x, variables), by_direction, tf.UnconnectedGradients.ZERO)
            sums = _add(_add(sums, by_step), gradients[2])
            return t - 1, state, _add(by_state, gradients[0]), sums, by_features.write(t, gradients[1])

        by_features = tf.TensorArray(features.dtype, self.length, element_shape=features.shape[1:])
        start = (self.length - 1, state, cotangents, sums, by_features)
        _, cotangents, sums, by_features = _while(lambda t: t >= 0, step_back, start, self.length)
        return cotangents, sums, by_features.stack()


def _add(totals, parts):
    return tuple(total + part for total, part in zip(totals, parts))


def _arrays(state, size):
    """Returns arrays for `size` tensors like each layer's fast weights."""
    return tuple(_array(fast, size) for fast in state)


def _while(condition, body, start, iterations):
    """A `tf.while_loop` that counts in its first variable, which is not returned."""
    _, *results = tf.while_loop(
        lambda i, *_: condition(i), body, (tf.constant(start[0]), *start[1:]), maximum_iterations=iterations
    )
    return results
