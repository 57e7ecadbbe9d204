"""Recurrent FLP: against a loop in NumPy, its special case FLP, and what it settles to."""

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from helpers import (
    CLASSIFICATION,
    REGRESSION,
    assert_close,
    build_learner,
    gradients_by_layer,
    kernels_of,
    meta_gradient,
    newborn_learner,
    random_episode,
    to_numpy,
    weights_by_layer,
)

from flp_tf import lifetime
from flp_tf.errors import InputError

STEPS = 3
CASES = {
    "silence": {"sub_steps": 4, "num_plastic_layers": 3},
    "forward": {"sub_steps": 2, "activity_start": "forward"},
    "target": {"sub_steps": 3, "feedback_signal": "target"},
    "clamped": {"sub_steps": 3, "clamp_output": True, "feedback_signal": "target", "num_plastic_layers": 3},
    "clamped error": {"sub_steps": 2, "clamp_output": True, "feedback_signal": "error"},
    "output feedback": {"sub_steps": 3, "hidden_feedback": False, "num_plastic_layers": 3},
}


def sub_step(layers, fast, first, activities, f, y):
    """Returns the plastic activities one sub-step later, and the output before it is clamped; all at the same time."""
    found = []
    for i in range(first, len(layers)):
        layer = layers[i]
        u = activities[i - first] @ fast[i] + layer["b"]
        drive = u if i == len(layers) - 1 else numpy_reference.relu(u)
        if "B" in layer:
            z = numpy_reference.relu(f @ layer["B"][0] + layer["c"][0])
            found.append((1 - layer["beta"]) * drive + layer["beta"] * z)
        else:
            found.append(y if i == len(layers) - 1 else drive)
    return found, drive if "B" not in layers[-1] else found[-1]


def settle(layers, fast, x, y, flags):
    """Returns features and plastic activities after the sub-steps of one inner step."""
    first = next(i for i, layer in enumerate(layers) if "a" in layer)
    features, *activities = numpy_reference.forward(layers, fast, x)[first:]
    if flags.get("activity_start") != "forward":
        activities = [0 * activity for activity in activities]
    output = activities[-1]
    for _ in range(flags["sub_steps"]):
        f = y if flags.get("feedback_signal") == "target" else y - output
        activities, output = sub_step(layers, fast, first, [features, *activities], f, y)
    return first, [features, *activities]


def reference(layers, xs, ys, flags):
    """Returns the fast kernels of all layers after a lifetime; weights may be complex."""
    fast = [layer["W"] for layer in layers]
    for x, y in zip(xs, ys):
        first, h = settle(layers, fast, x, y, flags)
        for i in range(first, len(layers)):
            direction = numpy_reference.local_update("oja", fast[i], h[i - first], h[i - first + 1])
            fast[i] = fast[i] + 0.1 * layers[i]["a"] * direction
    return fast


@pytest.mark.parametrize("name", CASES)
def test_lifetime_and_meta_gradients(name, float64):
    """Final kernels, loss, and one entry of every meta-gradient by complex steps, through the segmented engine."""
    flags = CASES[name]
    task = CLASSIFICATION if flags.get("clamp_output") else REGRESSION
    learner = build_learner(task, method="recurrent", **flags)
    episode = random_episode(task, steps=STEPS)
    state = kernels_of(learner, lifetime.run(learner, episode, segment_length=2).state)
    weights = to_numpy(weights_by_layer(learner))
    for i in range(2):
        expected = reference(weights, *(part[:, i] for part in to_numpy(episode)[:2]), flags)
        assert_close([kernel[i] for kernel in state], expected[-len(state) :])
    episode = episode.lifetime(0)
    xs, ys, query_x, query_y = (part[:, 0] if i < 2 else part[0] for i, part in enumerate(to_numpy(episode)[:4]))
    of_task = numpy_reference.mean_squared_error if task is REGRESSION else numpy_reference.cross_entropy

    def loss(weights):
        fast = reference(weights, xs, ys, flags)
        return of_task(numpy_reference.forward(weights, fast, query_x)[-1], query_y)

    found = meta_gradient(learner, task, episode, 2)
    assert_close(found.loss, loss(weights))
    for leaf, gradient in enumerate(tf.nest.flatten(gradients_by_layer(learner, found.gradients))):
        index = np.unravel_index(np.argmax(np.abs(gradient)), gradient.shape)
        assert gradient[index]
        assert_close(gradient[index], numpy_reference.derivative(loss, weights, leaf, index))


@pytest.mark.parametrize("clamp_output", [False, True])
def test_one_sub_step_from_a_forward_pass_is_flp(clamp_output, float64):
    """With updates that see presynaptic activity after feedback."""
    task = CLASSIFICATION if clamp_output else REGRESSION
    flags = {"clamp_output": clamp_output, "num_plastic_layers": 3}
    recurrent = build_learner(task, method="recurrent", sub_steps=1, activity_start="forward", **flags)
    flp = build_learner(task, presynaptic="post_feedback", **flags)
    episode = random_episode(task, steps=STEPS)
    assert_close(*(lifetime.run(learner, episode).state for learner in (recurrent, flp)))


def test_what_it_settles_to(float64):
    """A fixed point of the sub-step, whatever it starts from; without feedback that is the forward pass."""
    x, y = (part[0, 0] for part in random_episode()[:2])
    seen = {}
    for start in ("silence", "forward"):
        learner = newborn_learner(method="recurrent", sub_steps=60, activity_start=start, num_plastic_layers=3)
        for layer in learner.network.head:  # Small enough a loop gain to settle at once.
            layer.feedback.kernels[0].assign(0.3 * layer.feedback.kernels[0])
        state, features = learner.initial_state(), learner.encode(x)
        seen[start] = learner.observe(state, features, y)
    assert_close(seen["silence"], seen["forward"])
    layers = to_numpy(weights_by_layer(learner))
    settled = [part.numpy() for part in seen["forward"].post]
    again, _ = sub_step(
        layers, [layer["W"] for layer in layers], 0, [x.numpy(), *settled], (y - settled[-1]).numpy(), None
    )
    assert_close([np.array(part) for part in again], settled)
    for layer in learner.network.head:
        layer.feedback.strength.assign(0.0)
    assert_close(list(learner.observe(state, features, y).post), learner.network.activities(state, features)[1:])


def test_what_cannot_be():
    with pytest.raises(InputError, match="^--sub_steps=2 are too few for --num_plastic_layers=3; legal values are 3"):
        newborn_learner(method="recurrent", sub_steps=2, num_plastic_layers=3)
    with pytest.raises(InputError, match="^--activity_start=noise is unknown; legal values: forward, silence"):
        newborn_learner(method="recurrent", activity_start="noise")
