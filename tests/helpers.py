"""What tests share: small learners with random weights, random episodes, ways to run."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from flp_tf import lifetime, losses
from flp_tf.component import seeded
from flp_tf.learners import METHODS as LEARNERS
from flp_tf.learners import FeedbackLearner, Learner
from flp_tf.meta.estimators import Backprop, Estimate
from flp_tf.registry import REGISTRIES, Choice
from flp_tf.tasks import Episode

MODES = ("eager", "graph", "xla")

# Of all learners that these helpers build; the fixture `float64` changes it for a test.
DTYPE = "float32"

# Every learner of the library: the flags that make it.
METHODS = {
    "flp": {"method": "flp"},
    "feature_reuse": {"method": "feature_reuse", "num_plastic_layers": 1},
    "dfa": {"method": "dfa"},
    "recurrent": {"method": "recurrent", "sub_steps": 3},
    "gradient_first_order": {"method": "gradient", "second_order": False},
    "gradient_second_order": {"method": "gradient", "second_order": True},
    "gradient_plastic_biases": {"method": "gradient", "plastic_biases": True},
    "oml": {"method": "oml"},
}

SMALL = {
    "network": "5-6",
    "num_plastic_layers": 2,
    "plasticity_scale": 0.1,
    "hidden_plasticity_factor": 1.0,
    "feedback_signal": "error",
    "clamp_output": False,
    "inner_rate": 0.05,
}


class ToyTask(NamedTuple):
    """What learners and the meta-objective see of a task."""

    input_shape: tuple[int, ...]
    num_outputs: int
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    error: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


REGRESSION = ToyTask((4,), 2, losses.mean_squared_error, losses.mean_squared_error)
CLASSIFICATION = ToyTask((4,), 3, losses.cross_entropy, losses.error_percent)


def options_from(component, default: type, flags: dict[str, Any], prefix: str = "") -> Any:
    """Returns a component's options with the values of flags, or of `SMALL`, for those that it has."""
    options = getattr(component, "Options", default)
    values = {**SMALL, **flags}
    names = [field.name for field in dataclasses.fields(options) if prefix + field.name in values]
    return options(**{name: values[prefix + name] for name in names})


def newborn_learner(task: ToyTask = REGRESSION, *, method: str = "flp", seed: int = 0, **flags) -> Learner:
    """Returns a learner of two hidden layers, its weights as the library starts them."""
    component = LEARNERS[method]
    choices = {flag: REGISTRIES[flag] for flag in component.uses}
    parts = {}
    for flag, registry in choices.items():
        name = flags.get(flag, registry.default)
        parts[flag] = Choice(registry[name], options_from(registry[name], registry.options(name), flags, f"{flag}_"))
    with seeded(seed):
        return component.from_options(task, options_from(component, component.Options, flags), parts, DTYPE)


def build_learner(task: ToyTask = REGRESSION, seed: int = 0, **flags) -> Learner:
    """Returns a learner of two hidden layers, every meta-learned weight random."""
    learner = newborn_learner(task, **flags)
    rng = np.random.default_rng(seed)
    for path, weight in learner.trainable.items():
        if path.endswith("/strength"):
            weight.assign(rng.uniform(0.2, 0.8))
        else:
            weight.assign(rng.normal(0.0, 0.5, weight.shape))
    return learner


class Scaled(FeedbackLearner):
    """A learner with a weight of its own and a penalty, written as a user would."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.gain = keras.Variable(1.5, dtype=DTYPE)

    def predict(self, state, features):
        return self.gain.value * super().predict(state, features)

    def penalty(self):
        return 0.1 * self.gain.value**2


def scaled_learner(**flags) -> Scaled:
    """Returns a `Scaled` with the network of `build_learner`."""
    return Scaled(build_learner(**flags).network)


def random_episode(
    task: ToyTask = REGRESSION, steps: int = 8, lifetimes: int = 2, batch: int = 3, dtype: str = "float64"
) -> Episode:
    """Returns an episode of normal inputs, with normal or one-hot targets."""
    rng = np.random.default_rng(0)

    def inputs(*axes):
        return tf.constant(rng.normal(size=(*axes, *task.input_shape)), dtype)

    def targets(*axes):
        if task.loss is losses.cross_entropy:
            return tf.constant(np.eye(task.num_outputs)[rng.integers(task.num_outputs, size=axes)], dtype)
        return tf.constant(rng.normal(size=(*axes, task.num_outputs)), dtype)

    support, query = (steps, lifetimes, batch), (lifetimes, 5)
    seeds = tf.stack([tf.fill([lifetimes], 7), tf.range(lifetimes)], -1)
    return Episode(inputs(*support), targets(*support), inputs(*query), targets(*query), seeds)


def in_mode(function: Callable, mode: str) -> Callable:
    """Returns a function as one of `MODES`: eager, as a graph, or compiled by XLA."""
    return function if mode == "eager" else tf.function(function, autograph=False, jit_compile=mode == "xla")


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """A context in which functions run as they are written: tracing takes most of the time of a few tiny steps."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def weights_by_layer(learner: Learner) -> list[dict[str, Any]]:
    """Returns the slow weights from the input up, under the names of the paper.

    Trunk layers have `W` and `b`; plastic ones also `a`, and those with a feedback
    pathway `B` and `c` (a list each) and `beta`.
    """
    layers = []
    for layer in learner.network.trunk + learner.network.head:
        weights = {"W": layer.kernel, "b": layer.bias}
        if layer in learner.network.head:
            weights["a"] = layer.plasticity
            if layer.feedback is not None:
                pathway = layer.feedback
                weights |= {"B": list(pathway.kernels), "c": list(pathway.biases), "beta": pathway.strength}
        layers.append(weights)
    return layers


def kernels_of(learner: Learner, state: Any) -> list[tf.Tensor]:
    """Returns the fast kernels of a state, from the first plastic layer up."""
    return [state[layer.name]["kernel"] for layer in learner.network.head]


def to_numpy(structure: Any) -> Any:
    """Returns the same structure with NumPy arrays in place of tensors and variables."""
    return tf.nest.map_structure(np.array, structure)


def gradients_by_layer(learner: Learner, gradients: dict[str, dict[str, tf.Tensor]]) -> list[dict[str, Any]]:
    """Returns meta-gradients in the structure of `weights_by_layer`; None where fixed."""
    pairs = zip(learner.trainable.values(), in_order(learner, gradients))
    found = {id(weight): gradient.numpy() for weight, gradient in pairs}
    return tf.nest.map_structure(lambda weight: found.get(id(weight)), weights_by_layer(learner))


def meta_gradient(learner: Learner, task: ToyTask, episode: Episode, segment_length: int = lifetime.AUTO) -> Estimate:
    """Returns loss, error and meta-gradients by backpropagation through the lifetime."""
    return Backprop(segment_length).estimate(learner, task, episode, tf.zeros([2], tf.int32))


def in_order(learner: Learner, gradients: dict[str, dict[str, tf.Tensor]]) -> list[tf.Tensor]:
    """Returns meta-gradients in the order of `learner.trainable`; all of them must be there."""
    flat = {path: gradient for group in gradients.values() for path, gradient in group.items()}
    assert flat.keys() == learner.trainable.keys()
    return [flat[path] for path in learner.trainable]


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-9) -> None:
    """Compares two structures of arrays, absolutely and relative to entries above one."""
    tf.nest.assert_same_structure(actual, expected)
    for one, other in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
