"""What all parts share: paths of variables, reproducible weights, configurations and copies."""

import random

import keras
import numpy as np
import pytest
from helpers import METHODS, assert_close, newborn_learner, to_numpy
from own_components import DenseInside, Shifted, Weighted, small_network

from flp_tf.component import GROUPS, group_of, named_variables, seeded
from flp_tf.feedback import DirectFeedback
from flp_tf.layers import PlasticDense
from flp_tf.networks import Network


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
