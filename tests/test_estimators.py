"""Estimators and the trainer above them, against a tape over an explicit Python loop."""

import os

import helpers
import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    METHODS,
    REGRESSION,
    assert_close,
    build_learner,
    in_mode,
    random_episode,
    to_numpy,
)

from flp_tf import losses, registry
from flp_tf.errors import InputError
from flp_tf.learners import FeedbackLearner
from flp_tf.meta import devices
from flp_tf.meta.devices import compiled_estimate
from flp_tf.meta.estimators import ESTIMATORS, Backprop, Estimate, Estimator
from flp_tf.meta.evaluation import Evaluator
from flp_tf.meta.options import Engine, OuterLoop
from flp_tf.meta.trainer import Trainer
from flp_tf.networks import Network
from flp_tf.tasks import Sine
from flp_tf.tasks.base import Episode, Task

SEED = tf.constant([1, 2])
PLAIN = Engine(jit_compile=False)


@pytest.fixture(autouse=True)
def float64(monkeypatch):
    monkeypatch.setattr(helpers, "DTYPE", "float64")


def python_estimate(learner, task, episode) -> Estimate:
    """Returns loss, error and gradients by a Python loop under one tape."""
    with tf.GradientTape() as tape:
        state = learner.initial_state(episode.seed)
        for x, y in zip(episode.support_x, episode.support_y):
            state = learner.learn(state, learner.encode(x), y)
        outputs = learner.predict(state, learner.encode(episode.query_x))
        loss = tf.reduce_mean(task.loss(outputs, episode.query_y)) + learner.penalty()
    weights = {path: weight.value for path, weight in learner.trainable.items()}
    flat = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    gradients = {group: {path: flat[path] for path in paths} for group, paths in learner.groups().items()}
    return Estimate(loss, tf.reduce_mean(task.error(outputs, episode.query_y)), gradients)


def flat(gradients) -> dict[str, np.ndarray]:
    return {path: gradient.numpy() for group in gradients.values() for path, gradient in group.items()}


class Scaled(FeedbackLearner):
    """A learner with a weight of its own and a penalty, written as a user would."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.gain = keras.Variable(1.5, dtype=helpers.DTYPE)

    def predict(self, state, features):
        return self.gain.value * super().predict(state, features)

    def penalty(self):
        return 0.1 * self.gain.value**2


def scaled_learner(**flags) -> Scaled:
    return Scaled(build_learner(**flags).network)


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("segment_length", [0, 3, -1])
def test_backprop_of_every_weight(segment_length, mode):
    """Loss with penalty, error, and gradients keyed by group and path, a learner's own weight among them."""
    learner, episode = scaled_learner(), random_episode()
    expected = python_estimate(learner, REGRESSION, episode)
    estimate = in_mode(lambda e: Backprop(segment_length).estimate(learner, REGRESSION, e, SEED), mode)(episode)
    assert list(estimate.gradients) == ["slow", "feedback", "plasticity", "strength"]
    assert flat(estimate.gradients).keys() == learner.trainable.keys()
    assert "gain" in estimate.gradients["slow"]
    assert_close(to_numpy(estimate), to_numpy(expected))
    assert all(np.any(gradient) for gradient in flat(estimate.gradients).values())
    assert float(estimate.loss - estimate.error) == pytest.approx(0.1 * 1.5**2)


FREEZE = {
    "trunk layer": (lambda network: network.trunk[0], {"network/layers/layer_0/kernel", "network/layers/layer_0/bias"}),
    "plastic layer": (lambda network: network.head[0], "network/layers/layer_1/"),
    "pathway": (lambda network: network.head[0].feedback, "network/layers/layer_1/feedback/"),
    "weight": (lambda network: network.head[-1].kernel, {"network/layers/layer_2/kernel"}),
}


@pytest.mark.parametrize("what", FREEZE)
def test_frozen_weights_stay(what):
    """`trainable = False` on a layer, a part of it or a weight: no gradient, no step, and the others' as before."""
    learner, episode = build_learner(), random_episode()
    before = flat(Backprop().estimate(learner, REGRESSION, episode, SEED).gradients)
    choose, frozen = FREEZE[what]
    if isinstance(frozen, str):
        frozen = {path for path in learner.variables if path.startswith(frozen)}
    choose(learner.network).trainable = False
    after = flat(Backprop().estimate(learner, REGRESSION, episode, SEED).gradients)
    assert before.keys() - after.keys() == frozen != set()
    assert frozen <= learner.variables.keys()
    assert_close(after, {path: before[path] for path in after})


class Line(Task):
    """The data of `random_episode` as a task of float32."""

    input_shape, num_outputs, num_concepts, steps, batch_size, query_examples = (4,), 2, 1, 6, 3, 5

    def sample_lifetime(self, seed, split):
        del split
        seeds = tf.random.split(seed, 4)
        sizes = [(self.steps, 3, 4), (self.steps, 3, 2), (5, 4), (5, 2)]
        return Episode(*[tf.random.stateless_normal(size, part) for size, part in zip(sizes, tf.unstack(seeds))])

    def with_lifetime(self, steps):
        other = Line()
        other.steps = steps
        return other


def make_trainer(learner, *, engine=PLAIN, estimator=None, **outer) -> Trainer:
    return Trainer(learner, Line(), estimator or Backprop(), OuterLoop(**outer), engine, seed=3)


def test_own_weight_is_trained_and_kept(monkeypatch):
    monkeypatch.setattr(helpers, "DTYPE", "float32")
    trainer = make_trainer(scaled_learner(), slow_rate=0.1)
    assert trainer.variables["learner/gain"].numpy() == 1.5
    trainer.outer_step()
    assert trainer.variables["learner/gain"].numpy() == pytest.approx(1.5, abs=0.101)
    assert trainer.variables["learner/gain"].numpy() != 1.5
    assert "optimizer/slow/momentum/gain" in trainer.variables


def test_frozen_layer_is_saved_but_not_trained(monkeypatch):
    monkeypatch.setattr(helpers, "DTYPE", "float32")
    learner = build_learner()
    learner.network.head[0].trainable = False
    trainer = make_trainer(learner, slow_rate=0.1, feedback_rate=0.1, plasticity_rate=0.1, strength_rate=0.1)
    before = {name: variable.numpy().copy() for name, variable in trainer.variables.items()}
    trainer.outer_step()
    for name, variable in trainer.variables.items():
        if name.startswith("learner/"):
            assert np.any(variable.numpy() != before[name]) != ("/layer_1/" in name), name
    assert sum("/layer_1/" in name for name in before) == len([p for p in learner.variables if "/layer_1/" in p]) > 0


def test_variables_of_a_trainer_are_distinct(monkeypatch):
    """Nothing is left out and nothing is there twice; names tell what a variable belongs to."""
    monkeypatch.setattr(helpers, "DTYPE", "float32")
    trainer = make_trainer(build_learner())
    assert len({variable.ref() for variable in trainer.variables.values()}) == len(trainer.variables)
    names = {name for name in trainer.variables if name.startswith("outer/")}
    assert names == {"outer/steps", "outer/skipped", "outer/skipped_in_a_row", "outer/seconds"}
    assert {name.split("/")[0] for name in trainer.variables} == {"learner", "outer", "optimizer"}


ON_DEVICES = [(name, cores) for name in METHODS for cores in (1, "gpu")] + [("flp", 2), ("flp", 3)]


@pytest.mark.parametrize(("name", "cores"), ON_DEVICES)
def test_compiled_estimate_of_a_meta_batch(name, cores, monkeypatch):
    """One lifetime per core at a time (CPU) or all side by side (GPU): the mean over the meta-batch."""
    if cores == "gpu":
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    else:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    learner = build_learner(**METHODS[name])
    episode = random_episode(lifetimes=4 if cores == 2 else 3)
    compiled = compiled_estimate(Backprop(3), learner, REGRESSION, jit_compile=False)
    assert_close(to_numpy(compiled(episode, SEED)), to_numpy(python_estimate(learner, REGRESSION, episode)))


@pytest.mark.parametrize("hoisted", [True, False])
def test_convolutional_trunk_apart(hoisted, monkeypatch):
    """The trunk outside of XLA, differentiated through its features; on a GPU or in segments it stays inside."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    if not hoisted:
        monkeypatch.setattr("flp_tf.lifetime.engine.HOISTED_BYTES", 0)
    task = helpers.ToyTask((6, 6, 1), 2, losses.mean_squared_error, losses.mean_squared_error)
    learner, episode = build_learner(task, network="c2s2-5"), random_episode(task, steps=3)
    assert learner.network.convolutional_trunk
    calls = []
    from_features = Backprop.estimate_from_features
    monkeypatch.setattr(
        Backprop, "estimate_from_features", lambda *arguments: calls.append(1) or from_features(*arguments)
    )
    compiled = compiled_estimate(Backprop(), learner, task)
    expected = python_estimate(learner, task, episode)
    assert_close(to_numpy(compiled(episode, SEED)), to_numpy(expected))
    assert all(np.any(gradient) for gradient in flat(expected.gradients).values())
    assert bool(calls) == hoisted


class Noise(Estimator):
    """Draws its gradients, and counts its calls in a variable: what a stateful estimator needs."""

    def build(self, learner, task, lifetimes):
        self.lifetimes = lifetimes
        self.calls = tf.Variable(0.0, trainable=False)

    @property
    def variables(self):
        return {"calls": self.calls}

    def estimate(self, learner, task, episode, seed):
        self.calls.assign_add(1.0)
        gradients = {
            group: {path: tf.random.stateless_normal(weight.shape, seed) for path, weight in weights.items()}
            for group, weights in learner.groups().items()
        }
        return Estimate(self.calls + 0.0, tf.cast(episode.query_x.shape[0], tf.float32), gradients)


class Whole(Noise):
    """The same, of a whole meta-batch."""

    separable = False


@pytest.mark.parametrize("kind", [Noise, Whole])
def test_estimator_with_state_and_noise(kind, monkeypatch):
    """Its variables are kept; each lifetime, or a whole meta-batch, has a seed of its own at every outer step."""
    monkeypatch.setattr(helpers, "DTYPE", "float32")
    estimator = kind()
    trainer = make_trainer(build_learner(), estimator=estimator, meta_batch=2)
    assert trainer.variables["estimator/calls"] is estimator.calls
    assert estimator.lifetimes == 2
    norms = []
    for step in range(2):
        metrics = trainer.outer_step()
        assert metrics["error"] == (1 if kind.separable else 2)
        assert estimator.calls.numpy() == (2 if kind.separable else 1) * (step + 1)
        norms.append(metrics["gradient_norm/slow"])
    assert norms[0] != norms[1]
    again = make_trainer(build_learner(), estimator=kind(), meta_batch=2)
    assert again.outer_step()["gradient_norm/slow"] == norms[0]
    # The mean of two independent gradients is shorter than one by sqrt(2).
    size = sum(np.prod(weight.shape) for weight in trainer.learner.groups()["slow"].values())
    assert norms[0] == pytest.approx(np.sqrt(size / (2 if kind.separable else 1)), rel=0.3)


def test_registered_options():
    options = ESTIMATORS.options("backprop")
    registry.check(options())
    assert registry.Choice(Backprop, options(segment_length=4))().segment_length == 4
    with pytest.raises(InputError, match="--segment_length=-2 is too small"):
        registry.check(options(segment_length=-2))
    registry.check(Engine())


def test_curriculum_frees_what_is_over(monkeypatch):
    """Phases of one length are compiled once, and freed when no later phase has it."""
    monkeypatch.setattr(helpers, "DTYPE", "float32")
    seen = []
    monkeypatch.setattr(
        "flp_tf.meta.trainer.compiled_estimate",
        lambda *arguments: seen.append(arguments[2].steps) or devices.compiled_estimate(*arguments),
    )
    trainer = make_trainer(build_learner(), curriculum="2:1,3:1,2:1", episodes=5)
    held = []
    for _ in range(5):
        trainer.outer_step()
        held.append(sorted(trainer._compiled))
    assert seen == [2, 3, 6]
    assert held == [[2], [2, 3], [2], [6], [6]]


def test_curriculum_that_does_not_fit_the_task_is_refused():
    learner = build_learner(helpers.ToyTask((3,), 1, losses.mean_squared_error, losses.mean_squared_error))
    with pytest.raises(InputError, match="--lifetime=3"):
        Trainer(learner, Sine(num_sines=2, lifetime=8), Backprop(), OuterLoop(curriculum="3:1"), PLAIN, seed=0)


def test_meta_batch_that_does_not_divide_is_refused():
    class Strategy:
        num_replicas_in_sync = 2

    with pytest.raises(InputError, match="--meta_batch=3 does not divide over 2 devices; legal .* multiples of 2"):
        Trainer(build_learner(), Line(), Backprop(), OuterLoop(meta_batch=3), PLAIN, seed=0, strategy=Strategy())


def test_evaluation_compiles_once(monkeypatch):
    """Another seed gives other lifetimes and is not compiled again."""
    monkeypatch.setattr(helpers, "DTYPE", "float32")
    learner, traced = build_learner(), []
    encode = Network.encode
    monkeypatch.setattr(Network, "encode", lambda *arguments: traced.append(1) or encode(*arguments))
    evaluator = Evaluator(learner, Line(), jit_compile=False)
    first = evaluator(0, 4)
    count = len(traced)
    others = [evaluator(seed, 4) for seed in (1, 2, 2**31 - 1)]
    assert len(traced) == count > 0
    assert len({float(evaluation.errors.mean()) for evaluation in (first, *others)}) == 4
    assert_close(to_numpy(evaluator(0, 4)), to_numpy(first), tolerance=0)
