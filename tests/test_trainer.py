"""The trainer: what it trains, keeps and compiles, and what it refuses."""

import gc

import helpers
import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_close, build_learner, scaled_learner, to_numpy

from flp_tf import losses
from flp_tf.errors import InputError
from flp_tf.meta import devices
from flp_tf.meta.estimators import Backprop, Estimate, Estimator
from flp_tf.meta.evaluation import Evaluator
from flp_tf.meta.options import Engine, OuterLoop
from flp_tf.meta.trainer import Trainer
from flp_tf.networks import Network
from flp_tf.tasks import Sine
from flp_tf.tasks.base import Episode, Task

PLAIN = Engine(jit_compile=False)


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


def test_own_weight_is_trained_and_kept(eager):
    trainer = make_trainer(scaled_learner(num_plastic_layers=1), slow_rate=0.1)
    assert trainer.variables["learner/gain"].numpy() == 1.5
    trainer.outer_step()
    assert trainer.variables["learner/gain"].numpy() == pytest.approx(1.5, abs=0.101)
    assert trainer.variables["learner/gain"].numpy() != 1.5
    assert "optimizer/slow/momentum/gain" in trainer.variables


def test_frozen_layer_is_saved_but_not_trained(eager):
    learner = build_learner()
    learner.network.head[0].trainable = False
    trainer = make_trainer(learner, slow_rate=0.1, feedback_rate=0.1, plasticity_rate=0.1, strength_rate=0.1)
    before = {name: variable.numpy().copy() for name, variable in trainer.variables.items()}
    trainer.outer_step()
    for name, variable in trainer.variables.items():
        if name.startswith("learner/"):
            assert np.any(variable.numpy() != before[name]) != ("/layer_1/" in name), name
    assert sum("/layer_1/" in name for name in before) == len([p for p in learner.variables if "/layer_1/" in p]) > 0


def test_variables_of_a_trainer_are_distinct():
    """Nothing is left out and nothing is there twice; names tell what a variable belongs to."""
    trainer = make_trainer(build_learner())
    assert len({variable.ref() for variable in trainer.variables.values()}) == len(trainer.variables)
    names = {name for name in trainer.variables if name.startswith("outer/")}
    assert names == {"outer/steps", "outer/skipped", "outer/skipped_in_a_row", "outer/seconds"}
    assert {name.split("/")[0] for name in trainer.variables} == {"learner", "outer", "optimizer"}


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
def test_estimator_with_state_and_noise(kind):
    """Its variables are kept; each lifetime, or a whole meta-batch, has a seed of its own at every outer step."""
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


def test_curriculum_frees_what_is_over(eager, monkeypatch):
    """Phases of one length are compiled once, and freed when no later phase has it."""
    seen = []
    monkeypatch.setattr(
        "flp_tf.meta.trainer.compiled_estimate",
        lambda *arguments: seen.append(arguments[2].steps) or devices.compiled_estimate(*arguments),
    )
    trainer = make_trainer(build_learner(), estimator=Noise(), curriculum="2:1,3:1,2:1", episodes=5)
    held = []
    for _ in range(5):
        trainer.outer_step()
        held.append(sorted(trainer._compiled))
    assert seen == [2, 3, 6]
    assert held == [[2], [2, 3], [2], [6], [6]]


def test_graphs_of_a_phase_go_with_it():
    """Also those that TensorFlow registers for the gradient of a lifetime."""
    learner = build_learner(network="5", num_plastic_layers=1)
    trainer, alive = make_trainer(learner, curriculum="2:1", episodes=2), []
    for _ in range(2):
        trainer.outer_step()
        gc.collect()
        alive.append(sum(type(thing).__name__ == "FuncGraph" for thing in gc.get_objects()))
    assert alive[0] == alive[1] > 0


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
