"""Own Keras models as trunks: they train, are saved, copied, exported and counted like other networks."""

import copy
import json

import commands
import documents
import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_close, build_learner, random_episode, to_numpy

from flp_tf import lifetime
from flp_tf.component import seeded
from flp_tf.errors import InputError
from flp_tf.export import litert
from flp_tf.export.saved_model import export
from flp_tf.networks import ARCHITECTURES, Own, build, parse
from flp_tf.runs.run import load

layers = keras.layers


def residual(input_shape):
    """The example of a user: a functional model with a connection around a layer."""
    inputs = keras.Input(input_shape)
    h = layers.Dense(6, activation="relu")(inputs)
    h = layers.add([h, layers.Dense(6, activation="relu")(h)])
    return keras.Model(inputs, layers.LayerNormalization()(h))


def frozen(input_shape):
    """A sequential model whose statistics and dropout stay as they are."""
    model = keras.Sequential([layers.Dense(5), layers.BatchNormalization(), layers.Dropout(0.5)])
    model.trainable = False
    return model


TRUNKS = {
    "residual": residual,
    "sequential": lambda shape: keras.Sequential([layers.Dense(6, activation="relu"), layers.Dense(5)]),
    "nested": lambda shape: keras.Sequential([residual(shape), layers.Dense(5)]),
    "layer": lambda shape: layers.Dense(5),
    "recurrent": lambda shape: keras.Sequential([layers.Reshape((2, -1)), layers.GRU(5)]),
    "frozen": frozen,
}
# The numbers that their layers compute for an example, by hand.
UNITS = {"residual": 24, "sequential": 11, "nested": 29, "layer": 5, "recurrent": 9, "frozen": 15}


@pytest.fixture(autouse=True)
def registered():
    with documents.registrations():
        for name, make in TRUNKS.items():
            ARCHITECTURES.register(name)(make)
        yield


def test_text():
    assert parse("residual") == (Own("residual", residual),)
    assert parse("residual-8-7") == (Own("residual", residual), *parse("8-7"))
    ARCHITECTURES.register("residual-8")(frozen)
    assert parse("residual-8-7") == (Own("residual-8", frozen), *parse("7")), "the longer name"
    for text in ("residual-", "8-residual", "residual-residual", "residuals-8"):
        with pytest.raises(InputError, match=f"^--network={text} is not an architecture; legal .*residual"):
            parse(text)


@pytest.mark.parametrize("name", TRUNKS)
def test_a_lifetime_is_that_of_its_features(name):
    """The head on the features of the Keras model, against the head alone on features from `model.predict`."""
    learner = build_learner(network=f"{name}-6")
    (trunk,) = learner.network.trunk
    assert (trunk.name, learner.network.trunk_units) == ("layer_0", UNITS[name])
    episode = random_episode(dtype="float32")
    found = lifetime.run(learner, episode)

    def features(x):
        return trunk.predict(tf.reshape(x, [-1, 4]).numpy(), verbose=0).reshape(*x.shape[:-1], -1)

    state = learner.initial_state(episode.seed)
    for x, y in zip(features(episode.support_x), episode.support_y):
        state = learner.learn(state, tf.constant(x), y)
    assert_close(to_numpy(found.state), to_numpy(state), tolerance=1e-4)
    assert np.any(found.state["layer_2"]["kernel"] != learner.initial_state(episode.seed)["layer_2"]["kernel"])


@pytest.mark.parametrize("name", TRUNKS)
def test_copies_and_seeds(name):
    """Weights have the same paths in every copy, and are those of the seed."""

    def network():
        with seeded(3):
            return build_learner(network=f"{name}-6").network

    one = network()
    twin = copy.deepcopy(one)
    x = tf.random.stateless_normal([3, 4], [0, 0])
    assert_close(twin.encode(x), one.encode(x), tolerance=0)
    variables = [dict(build_learner(network=f"{name}-6").variables) for _ in range(2)]
    assert_close(*[to_numpy(found) for found in variables], tolerance=0)
    trained = {path for path in build_learner(network=f"{name}-6").trainable if "layer_0" in path}
    assert bool(trained) == (name != "frozen")


def test_an_own_trunk_of_bfloat16():
    """Layers that say no type compute in that of the trunk; the type of other models stays what it was."""
    network = build(parse("residual-8"), (4,), 2, 1, trunk_dtype="mixed_bfloat16")
    dense = network.trunk[0].layers[1]
    assert (dense.compute_dtype, dense.variable_dtype) == ("bfloat16", "float32")
    assert network.encode(tf.zeros([1, 4])).dtype == tf.float32
    assert keras.config.dtype_policy().name == "float32"


def test_convolutions():
    """An own trunk of convolutions runs outside of XLA like others; a convolution above gets its maps."""
    ARCHITECTURES.register("maps")(lambda shape: keras.Sequential([layers.Conv2D(3, 3), layers.MaxPooling2D()]))
    network = build(parse("maps-c4-5"), (12, 12, 1), 2, 2)
    assert network.convolutional_trunk and network.feature_shape == (3, 3, 4)
    with pytest.raises(InputError, match="convolution 1 gets inputs of 2x2x3"):
        build(parse("maps-c4"), (6, 6, 1), 2, 1)


@pytest.mark.parametrize("num_plastic_layers", [0, 3])
def test_the_trunk_is_not_plastic(num_plastic_layers):
    with pytest.raises(InputError, match="has 2 layers above its own trunk, legal values are 1 to 2"):
        build(parse("residual-8"), (4,), 2, num_plastic_layers)


CHANGING = {
    "BatchNormalization": lambda shape: keras.Sequential([layers.Dense(5), layers.BatchNormalization()]),
    "Dropout": lambda shape: keras.Sequential([keras.Sequential([layers.Dense(5), layers.Dropout(0.5)])]),
    "GaussianNoise": lambda shape: layers.GaussianNoise(0.1),
}


@pytest.mark.parametrize("kind", CHANGING)
def test_layers_that_training_changes_are_refused(kind):
    ARCHITECTURES.register("changing")(CHANGING[kind])
    message = rf"^--network=changing: training would change the state of \w+ \({kind}\)[^\n]* trainable = False"
    with pytest.raises(InputError, match=message):
        build(parse("changing-8"), (4,), 2, 1)


class Mixing(layers.Layer):
    """A layer whose outputs for an example depend on the other ones."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)

    def compute_output_shape(self, shape):
        return shape


UNFIT = {
    "has to compute the features of every example from that example alone; 3 .* give \\[1, 4\\]": lambda shape: Mixing(
        lambda x: tf.reduce_sum(x, 0, keepdims=True)
    ),
    "has to compute the features of every example from that example alone; 3 .* give \\[4, 3\\]": lambda shape: Mixing(
        tf.transpose
    ),
    "has to compute the features of every example from that example alone; 3 .* give \\[3, 4\\]": lambda shape: Mixing(
        lambda x: x - tf.reduce_mean(x, 0)
    ),
    r"has the weight \S+ of float64; legal is float32": lambda shape: layers.Dense(5, dtype="float64"),
    r"has the weight \S+kernel of float16; legal is float32": lambda shape: keras.Sequential(
        [layers.Dense(5), layers.Dense(5, dtype="float16")]
    ),
    "is a NoneType; a trunk is a Keras layer or model": lambda shape: None,
    r"does not take examples of shape \(4,\): .* value 7": lambda shape: keras.Sequential(
        [keras.Input((7,)), layers.Dense(5)]
    ),
    "has to return one tensor": lambda shape: keras.Model(x := keras.Input(shape), [x, layers.Dense(5)(x)]),
}


@pytest.mark.parametrize("message", UNFIT)
def test_models_that_are_no_trunk_are_refused(message):
    ARCHITECTURES.register("unfit")(UNFIT[message])
    with pytest.raises(InputError, match=rf"^--network=unfit {message}[^\n\x1b]*$"):
        build(parse("unfit-8"), (4,), 2, 1)


@pytest.mark.slow
def test_a_run_with_an_own_trunk(bare, eager, tmp_path):
    """It trains, goes on, is evaluated and exported; what is exported learns like the run."""
    flags = (*commands.SHORT, "--network=residual-8", f"--logdir={tmp_path}/run")
    commands.run(*flags, "--episodes=2")
    run = load(tmp_path / "run")
    commands.run(*flags, "--episodes=4")
    again = load(tmp_path / "run")
    moved = {path: np.any(weight != run.learner.variables[path]) for path, weight in again.learner.variables.items()}
    of_trunk = [path for path in moved if path.startswith("network/layers/layer_0/")]
    assert len(of_trunk) == 6 and all(moved[path] for path in of_trunk)
    commands.run("--mode=evaluate", f"--logdir={tmp_path}/run")
    assert np.isfinite(json.loads((tmp_path / "run" / "evaluation.json").read_text())["meta_test"]["mean"])

    export(again.learner, tmp_path / "model")
    episode = again.task.sample(0, tf.constant(0), 1, "test")
    model = tf.saved_model.load(str(tmp_path / "model"))
    for x, y in zip(episode.support_x, episode.support_y):
        model.learn(x[0], y[0])
    expected = lifetime.query(again.learner, lifetime.run(again.learner, episode).state, episode)[0]
    assert_close(model.predict(episode.query_x[0]), expected, tolerance=1e-4)
    size = sum(np.size(weight) for weight in again.learner.variables.values())
    assert len(litert.convert(again.learner)) > 4 * size
