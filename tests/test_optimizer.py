"""Outer optimizers by group against their definitions: rates, clipping, schedules, decay, state by name."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_close, build_learner

from flp_tf import registry
from flp_tf.component import GROUPS
from flp_tf.errors import ContractError, InputError
from flp_tf.meta.optimizers import OPTIMIZERS, Kind, Optimizers, with_groups
from flp_tf.meta.options import OuterLoop, OuterOptions, phases
from flp_tf.meta.schedules import SCHEDULES, Cosine

RATES = {"slow_rate": 0.01, "feedback_rate": 0.02, "plasticity_rate": 0.03, "strength_rate": 0.04}
DECAYING = [name for name, kind in OPTIMIZERS.items() if kind.decays]


def everywhere(name: str) -> dict[str, str]:
    """Returns the flags that give every group the same optimizer."""
    return {f"{group}_optimizer": name for group in GROUPS}


def random_gradients(groups, seed):
    rng = np.random.default_rng(seed)
    return {
        group: {path: tf.constant(rng.normal(size=weight.shape), weight.dtype) for path, weight in weights.items()}
        for group, weights in groups.items()
    }


def values(groups):
    """Returns all weights as arrays of float64."""
    return {
        group: {path: weight.numpy().astype(np.float64) for path, weight in weights.items()}
        for group, weights in groups.items()
    }


def adam(weight, gradients, rate):
    """Returns a weight after a step of Adam (Kingma and Ba, algorithm 1, last lines of section 2) a gradient."""
    m, v = np.zeros_like(weight), np.zeros_like(weight)
    for t, gradient in enumerate(gradients, 1):
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        weight = weight - rate * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
    return weight


def muon(weight, gradients, rate):
    """Returns a matrix after a step of Muon (Jordan et al. 2024, with the scale of Liu et al. 2025) a gradient."""
    momentum = np.zeros_like(weight)
    for gradient in gradients:
        momentum = 0.95 * momentum + gradient
        x = gradient + 0.95 * momentum
        x = x / np.linalg.norm(x)
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        weight = weight - rate * 0.2 * math.sqrt(max(weight.shape)) * x
    return weight


def clipped(gradients, limit):
    norm = math.sqrt(sum(np.sum(gradient**2) for gradient in gradients.values()))
    return {path: gradient * min(1, limit / norm) for path, gradient in gradients.items()}


@pytest.mark.parametrize("clip_norm", [0.0, 0.5, 1e6])
def test_two_steps(clip_norm):
    """Every weight after two steps, each group at its rate and clipped by itself, against NumPy."""
    groups = build_learner().groups()
    optimizers = Optimizers(groups, OuterLoop(**RATES, clip_norm=clip_norm), steps=10)
    before = values(groups)
    assert list(before) == ["slow", "feedback", "plasticity", "strength"]
    steps = [random_gradients(groups, seed) for seed in range(2)]
    # Groups at different distances from the limit, so that joint clipping would show.
    factors = dict(zip(groups, (1.0, 3.0, 1.0, 3.0)))
    steps = [{g: {p: x * factors[g] for p, x in part.items()} for g, part in step.items()} for step in steps]
    for gradients in steps:
        optimizers.apply(gradients)
    for name, weights in groups.items():
        parts = [{path: x.numpy().astype(np.float64) for path, x in step[name].items()} for step in steps]
        if clip_norm:
            parts = [clipped(part, clip_norm) for part in parts]
        for path, weight in weights.items():
            start, gradients = before[name][path], [part[path] for part in parts]
            assert weight.shape == gradients[0].shape
            assert_close(weight.numpy(), adam(start, gradients, RATES[f"{name}_rate"]), tolerance=1e-6)
            assert np.all(np.abs(weight.numpy() - start) > 1e-4)


def test_gradients_are_taken_by_name():
    """Gradients in another order give the same step."""
    steps = []
    for turn in (1, -1):
        groups = build_learner().groups()
        optimizers = Optimizers(groups, OuterLoop(**RATES), steps=10)
        gradients = random_gradients(groups, 0)
        optimizers.apply({g: dict(list(part.items())[::turn]) for g, part in list(gradients.items())[::turn]})
        steps.append(values(groups))
    assert_close(*steps, tolerance=0)


def test_norms():
    """A group's norm over all its gradients, before clipping."""
    groups = build_learner().groups()
    optimizers = Optimizers(groups, OuterLoop(clip_norm=0.1), steps=10)
    gradients = random_gradients(groups, 0)
    norms = optimizers.norms(gradients)
    for name, part in gradients.items():
        whole = np.concatenate([np.ravel(gradient) for gradient in part.values()])
        assert_close(norms[name], np.linalg.norm(whole), tolerance=1e-6)


def test_weights_without_a_rate_are_refused():
    groups = {"rule": {"network/rule/decay": keras.Variable(0.0)}}
    with pytest.raises(ContractError, match="^network/rule/decay is of the group rule, which has no rate; .* `trains`"):
        Optimizers(groups, with_groups(OuterOptions, ("slow",))(), steps=10)


@pytest.mark.parametrize(("method", "groups"), [("oml", ["slow"]), ("gradient", ["slow", "plasticity"])])
def test_empty_groups_are_left_out(method, groups):
    weights = build_learner(method=method).groups()
    optimizers = Optimizers({**weights, "rule": {}}, OuterLoop(), steps=10)
    gradients = random_gradients(weights, 0)
    assert list(optimizers.groups) == list(optimizers.norms(gradients)) == list(optimizers.optimizers) == groups
    optimizers.apply(gradients)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_variables_are_the_whole_state(name):
    """Every optimizer moves every group, and a second one given the first one's variables by name goes on like it."""
    options = OuterLoop(**RATES, **everywhere(name), warmup_steps=2)
    groups = build_learner().groups()
    first = Optimizers(groups, options, steps=6, schedule=Cosine())
    start = values(groups)
    for seed in range(3):
        first.apply(random_gradients(groups, seed))
    middle = values(groups)
    state = {key: variable.numpy().copy() for key, variable in first.variables.items()}
    first.apply(random_gradients(groups, 3))
    end = values(groups)
    for group in groups:
        for path in groups[group]:
            assert np.any(start[group][path] != middle[group][path]) and np.any(middle[group][path] != end[group][path])
    # Another learner, whose Keras variables have other names.
    others = build_learner(seed=1).groups()
    second = Optimizers(others, options, steps=6, schedule=Cosine())
    assert list(second.variables) == list(state)
    for group, weights in others.items():
        for path, weight in weights.items():
            weight.assign(middle[group][path])
    for key, variable in second.variables.items():
        variable.assign(state[key])
    second.apply(random_gradients(others, 3))
    assert_close(values(others), end, tolerance=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_names_are_of_group_slot_and_path(name):
    """A name does not depend on the other weights: with one weight more, all others keep theirs."""
    groups = build_learner().groups()
    less = {group: dict(list(weights.items())[1:]) for group, weights in groups.items()}
    options = OuterLoop(**everywhere(name))
    whole, part = (Optimizers(weights, options, steps=6).variables for weights in (groups, less))
    new = set(whole) - set(part)
    assert set(part) <= set(whole)
    assert {key.split("/", 2)[2] for key in new} <= {path for group in groups.values() for path in group}
    for key, variable in whole.items():
        group, slot, *path = key.split("/")
        assert slot == "iteration" or variable.shape == groups[group]["/".join(path)].shape


def test_muon_trains_matrices():
    """Three steps of each kernel against NumPy; biases are trained by Adam at the same rate."""
    groups = build_learner().groups()
    optimizers = Optimizers(groups, OuterLoop(**RATES, slow_optimizer="muon"), steps=10)
    before = values(groups)
    steps = [random_gradients(groups, seed) for seed in range(3)]
    for gradients in steps:
        optimizers.apply(gradients)
    shapes = set()
    for path, weight in groups["slow"].items():
        gradients = [step["slow"][path].numpy().astype(np.float64) for step in steps]
        reference = muon if len(weight.shape) == 2 else adam
        # Newton-Schulz does not converge; wide and tall matrices both occur.
        transposed = len(weight.shape) == 2 and weight.shape[0] > weight.shape[1]
        start = before["slow"][path]
        if transposed:
            expected = reference(start.T, [gradient.T for gradient in gradients], 0.01).T
        else:
            expected = reference(start, gradients, 0.01)
        assert_close(weight.numpy(), expected, tolerance=2e-5)
        shapes.add((len(weight.shape), transposed))
    assert shapes == {(1, False), (2, False), (2, True)}
    for path, weight in groups["feedback"].items():
        gradients = [step["feedback"][path].numpy().astype(np.float64) for step in steps]
        assert_close(weight.numpy(), adam(before["feedback"][path], gradients, 0.02), tolerance=1e-6)


def test_muon_trains_kernels_of_convolutions_by_adam():
    kernel = keras.Variable(np.random.default_rng(0).normal(size=(3, 3, 2, 4)), dtype="float32")
    groups = {"slow": {"kernel": kernel}}
    optimizers = Optimizers(groups, OuterLoop(slow_rate=0.01, slow_optimizer="muon"), steps=10)
    before, gradients = values(groups)["slow"]["kernel"], random_gradients(groups, 1)
    optimizers.apply(gradients)
    assert_close(kernel.numpy(), adam(before, [gradients["slow"]["kernel"].numpy()], 0.01), tolerance=1e-6)


@pytest.mark.parametrize("name", DECAYING)
def test_weight_decay(name):
    """Where the gradient is 0 the weights shrink by rate times decay, in the groups whose optimizer has it."""
    groups = build_learner().groups()
    for decay in (0.0, 0.5):
        options = OuterLoop(slow_rate=0.1, slow_optimizer=name, feedback_rate=0.1, weight_decay=decay)
        start = values(groups)
        optimizers = Optimizers(groups, options, steps=10)
        zero = tf.nest.map_structure(tf.zeros_like, random_gradients(groups, 0))
        optimizers.apply(zero)
        end = values(groups)
        assert_close(end["feedback"], start["feedback"], tolerance=0)
        for path in groups["slow"]:
            assert_close(end["slow"][path], (1 - 0.1 * decay) * start["slow"][path], tolerance=1e-6)


def test_weight_decay_that_no_optimizer_has_is_refused():
    groups = build_learner(method="oml").groups()
    with pytest.raises(InputError, match="--weight_decay=0.1 does not go with --slow_optimizer=adam; .*adamw"):
        Optimizers(groups, OuterLoop(weight_decay=0.1, feedback_optimizer="adamw"), steps=10)
    Optimizers(groups, OuterLoop(weight_decay=0.1, slow_optimizer="adamw"), steps=10)


def test_options_of_all_groups():
    names = [f"{group}_{what}" for group in GROUPS for what in ("rate", "optimizer")]
    options = OuterLoop()
    registry.check(options)
    assert {name: registry.kind(OuterLoop, name) for name in names} == dict(zip(names, [float, str] * len(GROUPS)))
    assert [options.rate(group) for group in GROUPS] == [1e-4] * len(GROUPS)
    assert OuterLoop(rule_rate=0.5).rate("rule") == 0.5
    with pytest.raises(InputError, match="--slow_optimizer=adma is unknown; legal values: adam, adamax, adamw"):
        registry.check(OuterLoop(slow_optimizer="adma"))


def test_own_optimizer(monkeypatch):
    """Another optimizer is one line."""

    class Sign(keras.optimizers.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, tf.cast(learning_rate, variable.dtype) * tf.sign(gradient))

    monkeypatch.setitem(OPTIMIZERS, "sign", Kind(Sign))
    options = OuterLoop(slow_optimizer="sign", slow_rate=0.5)
    registry.check(options)
    groups = build_learner(method="oml").groups()
    before, gradients = values(groups), random_gradients(groups, 0)
    Optimizers(groups, options, steps=10).apply(gradients)
    for path, weight in groups["slow"].items():
        assert_close(weight.numpy(), before["slow"][path] - 0.5 * np.sign(gradients["slow"][path]), tolerance=1e-6)


def rate_at(step, kind, warmup, steps, rate=0.2):
    """Returns the rate in closed form."""
    if step < warmup:
        return rate * step / warmup
    if kind == "constant":
        return rate
    progress = min((step - warmup) / (steps - warmup), 1)
    return rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("kind", ["constant", "cosine"])
def test_schedule(kind, warmup):
    """The rate at every outer step, and after the last, against its closed form."""
    groups, options = build_learner(method="oml").groups(), OuterLoop(slow_rate=0.2, warmup_steps=warmup)
    optimizer = Optimizers(groups, options, 10, SCHEDULES[kind]()).optimizers["slow"]
    for step in range(13):
        optimizer.iterations.assign(step)
        assert_close(float(optimizer.learning_rate), rate_at(step, kind, warmup, 10), tolerance=1e-6)


def test_schedule_runs_with_the_steps():
    """Under a constant gradient Adam moves a weight by the rate; float32 has `1 - 0.999^t` to 6e-5."""
    groups = build_learner().groups()
    optimizers = Optimizers(groups, OuterLoop(slow_rate=0.2, warmup_steps=2), steps=5, schedule=Cosine())
    gradients = tf.nest.map_structure(tf.ones_like, random_gradients(groups, 0))
    weight = next(iter(groups["slow"].values()))
    for step in range(5):
        before = weight.numpy().copy()
        optimizers.apply(gradients)
        assert_close(before - weight.numpy(), np.full(weight.shape, rate_at(step, "cosine", 2, 5)), tolerance=6e-5)


def test_phases_of_a_curriculum():
    assert phases(OuterLoop()) == [(0, 0, 100)]
    assert phases(OuterLoop(curriculum="40:2000,100:4000")) == [(0, 40, 0), (2000, 100, 0), (6000, 0, 100)]
    shares = OuterLoop(curriculum="25%:40%,100:52,50%:30%", episodes=1010, meta_batch=4)
    assert phases(shares) == [(0, 0, 25), (404, 100, 0), (456, 0, 50), (756, 0, 100)]
    assert [phase.length(400) for phase in phases(shares)] == [100, 100, 200, 400]
    assert phases(shares)[0].length(3) == 1


@pytest.mark.parametrize(
    "curriculum", ["40", "40:", ":2", "40-2", "²:2", "0:5", "5:0", "-4:2", "4:2:1", "0%:5", "5:0%", "%:4", "4%%:2"]
)
def test_curriculum_that_cannot_be_read_is_refused(curriculum):
    with pytest.raises(InputError, match="--curriculum=.* legal is LENGTH:EPISODES"):
        phases(OuterLoop(curriculum=curriculum))
