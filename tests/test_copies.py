"""Configurations and copies of layers, networks and learners."""

import copy
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import METHODS, assert_close, build_learner, kernels_of, random_episode, to_numpy
from own_components import DenseInside, Shifted, Weighted, small_network

from flp_tf.component import Component, named_variables
from flp_tf.errors import ContractError
from flp_tf.feedback import DirectFeedback
from flp_tf.layers import PlasticConv2D, PlasticDense
from flp_tf.learners import FeedbackLearner
from flp_tf.networks import Network
from flp_tf.plasticity import Rule, oja


def decay(kernel, pre, post):
    """A rule of the tests' own, as a function."""
    return -kernel


PARTS = {
    "defaults": lambda: {},
    "names": lambda: {"rule": "hebb", "initial": "fixed", "activation": "tanh", "kernel_initializer": "he_uniform"},
    "functions": lambda: {"rule": oja, "activation": keras.activations.tanh, "feedback": DirectFeedback(3, 0.25)},
    "instances": lambda: {
        "rule": Weighted(2.0),
        "initial": Shifted(),
        "feedback": DirectFeedback(3, activation="linear", units=(4, 2)),
        "kernel_initializer": keras.initializers.RandomNormal(stddev=0.1),
        "granularity": "per_neuron",
        "plasticity_scale": 0.5,
        "plasticity_init": 0.25,
        "train_plasticity": False,
    },
    "own pathway": lambda: {"feedback": DenseInside(3), "rule": "oja"},
}
LAYERS = {
    "dense": (lambda **options: PlasticDense(3, **options), (None, 4)),
    "conv": (lambda **options: PlasticConv2D(2, 2, strides=2, **options), (None, 5, 4, 1)),
}


def outputs_of(layer, shape):
    """Returns what a layer makes of random data: activity, post-feedback activity and new state."""
    rng = np.random.default_rng(1)
    x = tf.constant(rng.normal(size=(6, *shape[1:])), tf.float32)
    state = layer.get_initial_state(tf.zeros([1, 2], tf.int32))
    activity = layer(x[None], state)
    post = layer.mix_feedback(activity, tf.constant(rng.normal(size=(1, 6, 3)), tf.float32), {}, state)
    return to_numpy((activity, post, layer.update(state, x[None], post)))


def randomize(owner):
    rng = np.random.default_rng(0)
    for variable in named_variables(owner).values():
        variable.assign(rng.normal(0.3, 0.5, variable.shape))


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("kind", LAYERS)
def test_config_of_a_layer(kind, parts):
    """A layer from the JSON of its configuration is the same, apart from its weights."""
    make, shape = LAYERS[kind]
    layer = make(name="own", **PARTS[parts]())
    config = json.loads(json.dumps(layer.get_config()))
    twin = type(layer).from_config(config)
    assert twin.get_config() == layer.get_config() and twin.name == "own"
    for one in (layer, twin):
        one.build(shape)
        randomize(one)
    assert sorted(named_variables(twin)) == sorted(named_variables(layer))
    assert [w.trainable for w in named_variables(twin).values()] == [
        w.trainable for w in named_variables(layer).values()
    ]
    assert_close(outputs_of(twin, shape), outputs_of(layer, shape), tolerance=1e-6)


def test_config_keeps_dtype_and_trainable():
    layer = PlasticDense(3, dtype="float64", trainable=False, name="own")
    twin = PlasticDense.from_config(layer.get_config())
    assert (twin.dtype_policy.name, twin.trainable, twin.name) == ("float64", False, "own")


def test_config_with_a_function_of_the_user():
    """A function that Keras knows goes through; `custom_objects` tells it of another one."""
    layer = PlasticDense(3, rule=decay, plasticity_init=0.5)
    with keras.saving.custom_object_scope({"decay": decay}):
        twin = PlasticDense.from_config(layer.get_config())
    assert twin.rule.function is decay


def test_network_from_its_config():
    network = small_network(feedback=None, rule="hebb")
    twin = Network.from_config(json.loads(json.dumps(network.get_config())))
    assert sorted(named_variables(twin)) == sorted(named_variables(network))
    assert twin.feature_shape == network.feature_shape == (5,)


def assert_copied(one, other):
    """Compares variables: the same paths, values and flags, but not the same objects."""
    ours, theirs = named_variables(one), named_variables(other)
    assert list(ours) == list(theirs)
    assert not {id(weight) for weight in ours.values()} & {id(weight) for weight in theirs.values()}
    assert_close(to_numpy(ours), to_numpy(theirs), tolerance=0)
    assert [w.trainable for w in ours.values()] == [w.trainable for w in theirs.values()]


def assert_original_stays(original, twin):
    before = to_numpy(named_variables(original))
    for variable in named_variables(twin).values():
        variable.assign(variable + 1.0)
    assert_close(to_numpy(named_variables(original)), before, tolerance=0)


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("kind", LAYERS)
def test_copy_of_a_layer(kind, parts):
    make, shape = LAYERS[kind]
    layer = make(name="own", **PARTS[parts]())
    layer.build(shape)
    randomize(layer)
    layer.bias.trainable = False
    twin = copy.deepcopy(layer)
    assert_copied(layer, twin)
    assert_close(outputs_of(twin, shape), outputs_of(layer, shape), tolerance=0)
    assert_original_stays(layer, twin)


def test_copy_of_a_layer_without_weights():
    layer = PlasticDense(3, rule=decay, feedback=DirectFeedback(2))
    twin = copy.deepcopy(layer)
    assert not twin.built and twin.rule.function is decay and twin.feedback is not layer.feedback


def test_copy_of_a_network():
    network = small_network()
    randomize(network)
    network.layers["below"].trainable = False
    twin = copy.deepcopy(network)
    assert_copied(network, twin)
    assert list(twin.layers) == list(network.layers)
    assert not twin.layers["below"].trainable_weights
    x = tf.constant(np.random.default_rng(0).normal(size=(7, 2)), tf.float32)
    found = [one.activities(one.initial_state(), one.encode(x)) for one in (network, twin)]
    assert_close(to_numpy(found[1]), to_numpy(found[0]), tolerance=0)
    assert_original_stays(network, twin)


class WithOwnWeight(FeedbackLearner):
    """A learner with a weight of its own."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.decay = keras.Variable(0.5, name="decay")


@pytest.mark.parametrize("flags", METHODS.values(), ids=METHODS)
def test_copy_of_a_learner(flags):
    """Fixed weights of DFA and OML stay fixed; the copy learns as the original does."""
    learner = build_learner(**flags)
    twin = copy.deepcopy(learner)
    assert type(twin) is type(learner)
    assert_copied(learner, twin)
    assert list(twin.trainable) == list(learner.trainable)
    episode = random_episode(dtype="float32")

    def one_step(one):
        state = one.initial_state(episode.seed)
        return kernels_of(one, one.learn(state, one.encode(episode.support_x[0]), episode.support_y[0]))

    expected = to_numpy(one_step(learner))
    assert_close(to_numpy(one_step(twin)), expected, tolerance=0)
    assert_original_stays(learner, twin)
    assert_close(to_numpy(one_step(learner)), expected, tolerance=0)
    assert np.any(one_step(twin)[0] != expected[0])


def test_copy_of_a_learner_with_a_weight_of_its_own():
    learner = WithOwnWeight(build_learner().network)
    learner.decay.assign(0.25)
    twin = copy.deepcopy(learner)
    assert_copied(learner, twin)
    assert_original_stays(learner, twin)


def test_component_without_arguments():
    assert Component(name="plain").get_config() == {"name": "plain", "trainable": True, "dtype": "float32"}


class Kept(Rule):
    """A rule whose option is an attribute, without `arguments`."""

    def __init__(self, decay=0.1, **kwargs):
        super().__init__(**kwargs)
        self.decay = decay


class Lost(Rule):
    """A rule whose option no copy can find."""

    def __init__(self, decay=0.1, **kwargs):
        super().__init__(**kwargs)
        self.rate = -decay


def test_options_are_found_in_attributes_or_the_copy_is_refused():
    assert copy.deepcopy(Kept(5.0)).decay == 5.0 and Kept.from_config(Kept(5.0).get_config()).decay == 5.0
    for made in (copy.deepcopy, Lost.get_config):
        with pytest.raises(ContractError, match="Lost keeps its constructor's argument decay nowhere"):
            made(Lost(5.0))
