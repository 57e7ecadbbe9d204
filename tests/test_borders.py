"""The library's borders: arrays of NumPy go in, and nothing global of Keras, NumPy or Python changes."""

import functools
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    CLASSIFICATION,
    METHODS,
    assert_close,
    build_learner,
    in_order,
    meta_gradient,
    newborn_learner,
    random_episode,
    to_numpy,
)

from flp_tf import lifetime
from flp_tf.feedback import DirectFeedback
from flp_tf.initial import INITIALS
from flp_tf.layers import PlasticConv2D, PlasticDense
from flp_tf.networks import Network, build, parse
from flp_tf.plasticity import RULES
from flp_tf.tasks import Sine

pytestmark = pytest.mark.slow

# What a user's data are: float64 even where the network computes in float32.
TYPES = ("float32", "float64")
# Every learner, and every type in segments and in a plain loop: what becomes of an array depends on no learner.
KINDS = [(dtype, segment_length) for segment_length in (3, lifetime.PLAIN) for dtype in TYPES]
LEARNERS = [(name, *KINDS[i % 4]) for i, name in enumerate(METHODS)]


def drawn(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def layers():
    """Returns a dense and a convolutional layer of float32 with feedback, and inputs for them."""
    dense = PlasticDense(3, feedback=DirectFeedback(2), plasticity_init=0.1)
    dense.build((None, 4))
    conv = PlasticConv2D(3, 2, feedback=DirectFeedback(2), plasticity_init=0.1)
    conv.build((None, 4, 3, 2))
    return {"dense": (dense, (4,)), "conv": (conv, (4, 3, 2))}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_layers_take_arrays(kind, dtype):
    layer, shape = layers()[kind]
    x, signal, seeds = drawn(2, 5, *shape, dtype=dtype), drawn(2, 5, 2, dtype=dtype), np.zeros((2, 2), np.int32)

    def run(convert, x, signal):
        state = layer.get_initial_state(convert(seeds))
        state = tf.nest.map_structure(lambda part: convert(part.numpy()), state)
        activity = layer(x, state)
        post = layer.mix_feedback(convert(activity.numpy()), signal, {}, state)
        return activity, post, layer.update(state, x, convert(post.numpy()), signal)

    found = run(np.asarray, x, signal)
    expected = run(tf.constant, tf.constant(x, tf.float32), tf.constant(signal, tf.float32))
    assert {part.dtype for part in tf.nest.flatten(found)} == {tf.float32}
    assert_close(found, expected, tolerance=1e-6)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rule", ["oja", "hebb"])
def test_rules_and_initials_take_arrays(rule, dtype):
    arrays = drawn(4, 3, dtype=dtype), drawn(5, 4, seed=1, dtype=dtype), drawn(5, 3, seed=2, dtype=dtype)
    expected = RULES[rule]()(*(tf.constant(part, tf.float32) for part in arrays))
    assert_close(RULES[rule]()(*arrays), expected, tolerance=1e-6)
    initial = INITIALS["fixed"]()
    initial.build((4, 3))
    assert_close(initial(arrays[0], np.zeros((2, 2), np.int32)), np.stack([arrays[0]] * 2), tolerance=1e-6)


@pytest.mark.parametrize(("name", "dtype", "segment_length"), LEARNERS)
def test_learners_take_arrays(name, dtype, segment_length):
    """`initial_state`, `encode`, `learn` and `predict`, and a whole lifetime with its gradient."""
    learner = build_learner(CLASSIFICATION, **METHODS[name])
    tensors = random_episode(CLASSIFICATION, steps=3, dtype="float32")
    arrays = tensors._replace(**{field: part.numpy() for field, part in tensors._asdict().items()})
    arrays = arrays._replace(**{field: getattr(arrays, field).astype(dtype) for field in arrays._fields[:4]})

    def one_step(episode):
        state = learner.initial_state(episode.seed)
        state = learner.learn(state, learner.encode(episode.support_x[0]), episode.support_y[0])
        return state, learner.predict(state, learner.encode(episode.query_x))

    found, expected = one_step(arrays), one_step(tensors)
    assert {part.dtype for part in tf.nest.flatten(found)} == {tf.float32}
    assert_close(found, expected, tolerance=1e-5)
    features = learner.encode(arrays.support_x[0]).numpy().astype(dtype)
    state = to_numpy(learner.initial_state(arrays.seed))
    assert_close(learner.learn(state, features, arrays.support_y[0]), expected[0], tolerance=1e-5)
    assert_close(
        learner.predict(to_numpy(expected[0]), learner.encode(arrays.query_x).numpy().astype(dtype)),
        expected[1],
        tolerance=1e-5,
    )
    lifetimes = [lifetime.run(learner, e, segment_length=segment_length).state for e in (arrays, tensors)]
    assert_close(*lifetimes, tolerance=1e-5)
    queries = [lifetime.query(learner, state, e) for state, e in zip(lifetimes, (arrays, tensors))]
    assert_close(*queries, tolerance=1e-4)
    found, expected = (meta_gradient(learner, CLASSIFICATION, e, segment_length) for e in (arrays, tensors))
    assert_close(in_order(learner, found.gradients), in_order(learner, expected.gradients), tolerance=1e-3)


def test_lifetime_from_an_array_of_states():
    learner = build_learner()
    episode = random_episode(dtype="float32")
    state = learner.initial_state(episode.seed)
    expected = lifetime.run(learner, episode, state=state).state
    assert_close(lifetime.run(learner, episode, state=to_numpy(state)).state, expected, tolerance=0)


def test_networks_take_integers_and_lists():
    """Examples as nested lists, and images of integers."""
    network = build(parse("c3-5"), (4, 4, 1), 2, 1)
    images = np.random.default_rng(0).integers(0, 255, size=(3, 4, 4, 1))
    for integers in (images, images.tolist(), images.astype(np.uint8)):
        assert_close(network.encode(integers), network.encode(tf.constant(images, tf.float32)), tolerance=0)


def everything_global():
    """Returns what a library must not change."""
    return (
        keras.config.floatx(),
        keras.config.image_data_format(),
        keras.config.epsilon(),
        keras.config.dtype_policy().name,
        random.getstate(),
        [part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state()],  # noqa: NPY002,
    )


@pytest.fixture
def restored():
    """Puts Keras's settings back."""
    before = keras.config.floatx(), keras.config.image_data_format(), keras.config.dtype_policy()
    yield
    keras.config.set_floatx(before[0])
    keras.config.set_image_data_format(before[1])
    keras.config.set_dtype_policy(before[2])


SETTINGS = {
    "defaults": lambda: None,
    "channels_first": lambda: keras.config.set_image_data_format("channels_first"),
    "floatx float64": lambda: keras.config.set_floatx("float64"),
    "policy float64": lambda: keras.config.set_dtype_policy("float64"),
    "policy mixed_bfloat16": lambda: keras.config.set_dtype_policy("mixed_bfloat16"),
}
IMAGES = CLASSIFICATION._replace(input_shape=(7, 7, 2))


def a_bit_of_everything(method):
    """Makes learners, draws an episode of sines, and takes meta-gradients."""
    learner = newborn_learner(IMAGES, **{**METHODS[method], "network": "c3s2-c4-6", "num_plastic_layers": 3})
    for path, weight in learner.trainable.items():
        if path.endswith("/plasticity"):
            weight.assign(tf.fill(weight.shape, 0.1))
    episode = random_episode(IMAGES, steps=2, dtype="float32")
    estimate = meta_gradient(learner, IMAGES, episode, 2)
    sines = Sine(num_sines=2, lifetime=4, batch_size=3, query_size=2)
    of_sines = newborn_learner(sines, network="5-6", trunk_precision="bfloat16")
    drawn = sines.sample(0, tf.constant(0), 1, "train")
    return learner, estimate, (of_sines, meta_gradient(of_sines, sines, drawn))


@pytest.fixture(scope="module")
def expected_of():
    """Returns what `a_bit_of_everything` gives under Keras's own settings, made once for each method."""

    @functools.cache
    def expected(method):
        _, estimate, (_, of_sines) = a_bit_of_everything(method)
        return to_numpy(estimate), to_numpy(of_sines)

    return expected


IN_SETTINGS = [*(("flp", setting) for setting in SETTINGS), ("gradient_second_order", "floatx float64")]


@pytest.mark.parametrize(("method", "setting"), IN_SETTINGS)
def test_global_settings_neither_change_nor_matter(method, setting, expected_of, restored):
    """Whatever the user has set: types, results and the user's own settings are the same."""
    expected, of_sines = expected_of(method)
    SETTINGS[setting]()
    before = everything_global()
    learner, found, (other, found_of_sines) = a_bit_of_everything(method)
    assert everything_global() == before
    for one in (learner, other):
        assert {weight.dtype for weight in one.variables.values()} == {"float32"}
        assert one.network.compute_dtype == "float32"
        assert {layer.compute_dtype for layer in one.network.head} == {"float32"}
    assert [layer.compute_dtype for layer in other.network.trunk] == ["bfloat16"]
    assert_close(to_numpy(found), expected, tolerance=1e-6)
    assert_close(to_numpy(found_of_sines), of_sines, tolerance=1e-6)


@pytest.mark.parametrize("dtype", TYPES)
def test_parts_of_a_layer_are_of_its_dtype(dtype, restored):
    """Rules and initial distributions given by name compute in the layer's type."""
    keras.config.set_floatx("float64" if dtype == "float32" else "float32")
    layer = PlasticDense(3, rule="oja", initial="fixed", dtype=dtype)
    network = Network([], [layer], (4,), dtype=dtype)
    assert {part.compute_dtype for part in (layer, layer.rule, layer.initial, network)} == {dtype}
    state = network.initial_state(tf.zeros([2, 2], tf.int32))
    assert state[layer.name]["kernel"].dtype == dtype
    assert layer.update(state[layer.name], drawn(2, 5, 4), drawn(2, 5, 3))["kernel"].dtype == dtype


def draws():
    """Returns a random number of each global generator."""
    return random.random(), np.random.rand(), tf.random.normal([]).numpy()  # noqa: NPY002


def test_random_numbers_of_the_user_stay(restored):
    """A learner's weights come from its seed, and the caller's draws do not move."""
    keras.utils.set_random_seed(3)
    expected = draws()
    keras.utils.set_random_seed(3)
    learner = newborn_learner(seed=5)
    lifetime.run(learner, random_episode(dtype="float32"))
    assert draws() == expected
    keras.utils.set_random_seed(4)
    assert_close(to_numpy(newborn_learner(seed=5).variables), to_numpy(learner.variables), tolerance=0)
