"""What all parts share: paths of variables, reproducible weights, configurations and copies."""

import copy
import json
import math
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import METHODS, assert_close, build_learner, kernels_of, newborn_learner, random_episode, to_numpy

from flp_tf.component import GROUPS, Component, group_of, named_variables, seeded
from flp_tf.feedback import DirectFeedback, Pathway
from flp_tf.initial import FixedInitial, Initial
from flp_tf.layers import PlasticConv2D, PlasticDense
from flp_tf.learners import FeedbackLearner
from flp_tf.networks import Network
from flp_tf.plasticity import Rule, oja


class Weighted(Rule):
    """A rule with a weight."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def arguments(self):
        return {"factor": self.factor}

    def build(self, kernel_shape):
        self.theta = self.add_weight(name="theta", shape=(1, kernel_shape[1]), initializer="ones")
        self.built = True

    def call(self, kernel, pre, post):
        return self.factor * self.theta * tf.matmul(pre, post, transpose_a=True)


class Shifted(Initial):
    """An initial distribution with a weight."""

    def build(self, kernel_shape):
        self.shift = self.add_weight(name="shift", shape=kernel_shape, initializer="ones")
        self.built = True

    def call(self, kernel, seeds=None):
        return FixedInitial.call(self, kernel + self.shift, seeds)


class DenseInside(Pathway):
    """A pathway through a layer of Keras."""

    def build_pathway(self, activity_shape):
        self.dense = keras.layers.Dense(math.prod(activity_shape), dtype=self.dtype_policy)
        self.dense.build((None, self.signal_size))

    def pathway(self, signal, above, state):
        return tf.reshape(self.dense(signal), (*signal.shape[:-1], *self.activity_shape))


def small_network(**options):
    """Returns a trunk of one layer and two plastic ones."""
    trunk = [keras.layers.Dense(5, name="below")]
    return Network(trunk, [PlasticDense(n, name=f"plastic_{n}", **options) for n in (4, 3)], (2,))


def test_paths_are_those_of_attributes():
    network = Network(
        [keras.layers.Dense(5, name="below")],
        [PlasticDense(3, name="output", rule=Weighted(), initial=Shifted(), feedback=DirectFeedback(3, units=(2,)))],
        (2,),
    )
    assert sorted(named_variables(network)) == [
        "layers/below/bias",
        "layers/below/kernel",
        "layers/output/bias",
        "layers/output/feedback/biases/0",
        "layers/output/feedback/biases/1",
        "layers/output/feedback/kernels/0",
        "layers/output/feedback/kernels/1",
        "layers/output/feedback/strength",
        "layers/output/initial/shift",
        "layers/output/kernel",
        "layers/output/plasticity",
        "layers/output/rule/theta",
    ]
    assert {path: group_of(path) for path in named_variables(network)} == {
        **{f"layers/{name}/{part}": "slow" for name in ("below", "output") for part in ("kernel", "bias")},
        **{f"layers/output/feedback/{part}/{i}": "feedback" for part in ("kernels", "biases") for i in range(2)},
        "layers/output/feedback/strength": "strength",
        "layers/output/plasticity": "plasticity",
        "layers/output/rule/theta": "rule",
        "layers/output/initial/shift": "initial",
    }


def test_every_group_is_a_word_of_a_path():
    for group in GROUPS[1:]:
        assert group_of(f"network/layers/{group}/theta") == group
    assert group_of("network/layers/layer_0/kernel") == group_of("anything") == "slow"


def test_paths_depend_on_neither_order_nor_counters():
    """Layers that Keras has counted further, built in another order, have the same paths."""
    first = named_variables(small_network())
    for _ in range(3):
        keras.layers.Dense(2).build((None, 2))
    head = [PlasticDense(n, name=f"plastic_{n}") for n in (4, 3)]
    head[1].build((None, 4))
    head[0].build((None, 5), above_shapes={"plastic_3": (3,)})
    second = named_variables(Network([keras.layers.Dense(5, name="below")], head, (2,)))
    assert sorted(first) == sorted(second)
    assert {path: weight.shape for path, weight in first.items()} == {
        path: weight.shape for path, weight in second.items()
    }


def test_lists_and_dictionaries_of_variables():
    class Owner:
        def __init__(self):
            self.several = [keras.Variable(1.0), (keras.Variable(2.0),)]
            self.by_name = {"left": keras.Variable(3.0), "right": {"inner": keras.Variable(4.0)}}
            self.twice = self.several[0]
            self._hidden = keras.Variable(5.0)
            self.number = 6

    found = named_variables(Owner(), "owner")
    assert {path: float(variable.value) for path, variable in found.items()} == {
        "owner/several/0": 1.0,
        "owner/several/1/0": 2.0,
        "owner/by_name/left": 3.0,
        "owner/by_name/right/inner": 4.0,
    }


def test_layers_of_keras_inside():
    """A Dense in a pathway, and a Keras model in a trunk: no weight is lost, none is there twice."""
    layer = PlasticDense(3, feedback=DenseInside(2))
    layer.build((None, 4))
    found = named_variables(layer)
    assert {"feedback/dense/kernel", "feedback/dense/bias"} <= set(found)
    assert {id(weight) for weight in found.values()} == {id(weight) for weight in layer.weights}
    assert all(group_of(path) == "feedback" for path in found if "dense" in path)
    model = keras.Sequential(
        [keras.layers.Dense(6), keras.layers.BatchNormalization(), keras.layers.Dense(5)], name="body"
    )
    network = Network([model], [PlasticDense(3, name="output")], (4,))
    found = named_variables(network)
    assert {id(weight) for weight in found.values()} == {id(weight) for weight in network.variables}
    assert len(found) == len(network.variables)
    again = keras.Sequential(
        [keras.layers.Dense(6), keras.layers.BatchNormalization(), keras.layers.Dense(5)], name="body"
    )
    assert sorted(named_variables(Network([again], [PlasticDense(3, name="output")], (4,)))) == sorted(found)


@pytest.mark.parametrize("flags", METHODS.values(), ids=METHODS)
def test_a_learner_reports_every_variable_of_its_network(flags):
    learner = newborn_learner(**flags)
    assert {id(weight) for weight in learner.variables.values()} == {id(w) for w in learner.network.variables}
    assert len(learner.variables) == len(learner.network.variables)
    assert all(path.startswith("network/layers/layer_") for path in learner.variables)


def test_seeded():
    """Weights are a function of the seed, and the caller's random numbers stay what they were."""

    def weights(seed):
        with seeded(seed):
            return to_numpy(named_variables(small_network(feedback=None)))

    random.seed(5)
    expected = random.random()
    random.seed(5)
    one = weights(7)
    assert random.random() == expected
    assert_close(one, weights(7), tolerance=0)
    other = weights(8)
    drawn = [path for path, weight in one.items() if np.std(weight)]
    assert len(drawn) == 3 and all(np.any(one[path] != other[path]) for path in drawn)
    random.seed(5)
    with pytest.raises(KeyError), seeded(1):
        raise KeyError
    assert random.random() == expected


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
