"""The gradient of a lifetime, in little memory.

Backpropagation through a plain loop keeps every activity and everything that was
computed from it. Here the forward loop keeps the state before each step alone, and the
reverse loop runs each step again from there. Long lifetimes are cut into segments: the
forward loop keeps the states at their borders, and the reverse loop runs a segment again
for the states within it.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from flp_tf.lifetime.loop import arrays_like, counted_while, read, run_steps, stack, write
from flp_tf.lifetime.pure import PureStep, pure, references


def run_in_segments(
    step: PureStep, encode: Callable, state: Any, inputs: tf.Tensor, targets: tf.Tensor, length: int
) -> Any:
    """Runs segments of `length` steps, with a gradient of its own; returns the last state.

    Args:
        step: the inner step.
        encode: maps inputs to features: the trunk, unless that has run already.
        state: before the first step.
        inputs: of every step, `[steps, lifetimes, batch, ...]`.
        targets: `[steps, lifetimes, batch, outputs]`.
        length: steps of a segment; divides `steps`.
    """
    pieces = [tf.reshape(data, [-1, length, *data.shape[1:]]) for data in (inputs, targets)]

    @tf.custom_gradient
    def forward(pieces_x, pieces_y, *flat_state):
        segments = _Segments(step, encode, pieces_x, pieces_y)
        final, kept = segments.forward(tf.nest.pack_sequence_as(state, flat_state))
        final = tf.nest.flatten(final)

        def backward(*cotangents, variables=()):
            cotangents = [cotangent for cotangent, part in zip(cotangents, final) if _has_gradient(part)]
            by_x, by_y, by_state, by_variables = segments.backward(kept, cotangents, tuple(variables))
            by_state = iter(by_state)
            by_flat = [next(by_state) if _has_gradient(part) else None for part in final]
            return ((by_x, by_y, *by_flat), by_variables) if variables else (by_x, by_y, *by_flat)

        return final, backward

    return tf.nest.pack_sequence_as(state, forward(*pieces, *tf.nest.flatten(state)))


class _Segments:
    """The segments of a lifetime, forward and backward.

    Args:
        step: the inner step.
        encode: maps inputs to features.
        inputs: `[segments, length, lifetimes, batch, ...]`.
        targets: `[segments, length, lifetimes, batch, outputs]`.
    """

    def __init__(self, step, encode, inputs, targets):
        self.learn, self.step_variables = step.learn, step.variables
        self.inputs, self.targets = inputs, targets
        self.count, self.length = inputs.shape[:2]
        self.encode = encode if encode is tf.identity else pure(encode, "encode", inputs[0])[0]

    def forward(self, state):
        """Returns the last state, and the kept ones: before every step of a single segment, else of each segment."""
        if self.count == 1:
            return self._with_states(0, state, self.encode(self.inputs[0]))

        def advance(k, state, borders):
            borders = write(borders, k, state)
            features = self.encode(self.inputs[k])
            return k + 1, run_steps(self.learn, state, features, self.targets[k], lambda *_: (), ())[0], borders

        return counted_while(lambda k: k < self.count, advance, (0, state, arrays_like(state, self.count)), self.count)

    def backward(self, kept, cotangents, variables):
        """Differentiates the segments, the last one first.

        Returns gradients by inputs, targets, the first state and the variables.

        Args:
            kept: from `forward`.
            cotangents: gradients by the last state's floating-point tensors, flat.
            variables: all that the forward pass has read.
        """

        def retreat(k, cotangents, sums, by_inputs, by_targets):
            x = self.inputs[k]
            with tf.GradientTape() as tape:
                tape.watch(x)
                features = self.encode(x)
            states = kept if self.count == 1 else self._with_states(k, read(kept, k), features)[1]
            cotangents, sums, by_features, by_y = self._steps_back(k, states, features, cotangents, sums, variables)
            by_x, by_variables = tape.gradient(features, (x, variables), by_features, tf.UnconnectedGradients.ZERO)
            return k - 1, cotangents, _add(sums, by_variables), by_inputs.write(k, by_x), write(by_targets, k, by_y)

        sums = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
        by_targets = arrays_like(_floating(self.targets[0]), self.count)
        start = (self.count - 1, cotangents, sums, arrays_like(self.inputs[0], self.count), by_targets)
        by_state, sums, by_inputs, by_targets = counted_while(lambda k: k >= 0, retreat, start, self.count)
        by_targets = by_targets[0].stack() if by_targets else None
        return by_inputs.stack(), by_targets, by_state, sums

    def _with_states(self, k, state, features):
        """Runs segment `k`; returns the state after it, and arrays of the states before its steps."""
        arrays = arrays_like(state, self.length)
        return run_steps(self.learn, state, features, self.targets[k], lambda t, state, *_: state, arrays)

    def _steps_back(self, k, states, features, cotangents, sums, variables):
        """Differentiates the steps of segment `k`, the last one first."""
        of_step = [bool(references(variable) & self.step_variables) for variable in variables]
        used = [variable for variable, is_used in zip(variables, of_step) if is_used]
        targets = self.targets[k]

        def step_back(t, cotangents, sums, by_features, by_targets):
            state, x, y = read(states, t), features[t], targets[t]
            watched = (_floating(state), x, _floating(y), used)
            with tf.GradientTape() as tape:
                tape.watch(watched[:3])
                after = _floating(self.learn(state, x, y))
            by_state, by_x, by_y, by_used = tape.gradient(after, watched, cotangents, tf.UnconnectedGradients.ZERO)
            return t - 1, by_state, _add(sums, by_used), by_features.write(t, by_x), write(by_targets, t, by_y)

        own = [total for total, is_used in zip(sums, of_step) if is_used]
        by_targets = arrays_like(_floating(targets[0]), self.length)
        start = (self.length - 1, cotangents, own, arrays_like(features[0], self.length), by_targets)
        cotangents, own, by_features, by_targets = counted_while(lambda t: t >= 0, step_back, start, self.length)
        own = iter(own)
        sums = [next(own) if is_used else total for total, is_used in zip(sums, of_step)]
        return cotangents, sums, by_features.stack(), stack(by_targets)


def _has_gradient(part: tf.Tensor) -> bool:
    """Returns whether a tensor has gradients: those of integers and truth values have none."""
    return part.dtype.is_floating or part.dtype.is_complex


def _floating(structure: Any) -> list[tf.Tensor]:
    """Returns the tensors of a structure that have gradients."""
    return [part for part in tf.nest.flatten(structure) if _has_gradient(part)]


def _add(totals: list, parts: list) -> list:
    return [total + part for total, part in zip(totals, parts)]
