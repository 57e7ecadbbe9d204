"""Episodes of few-shot classification, from images that say which they are."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from flp_tf import lifetime
from flp_tf.errors import InputError
from flp_tf.learners import FeedbackLearner
from flp_tf.networks import build
from flp_tf.registry import Choice, Registry
from flp_tf.tasks import SPLITS, Classification

pytestmark = pytest.mark.slow

SIZE, CLASSES, DRAWINGS = 3, {"train": 9, "validation": 5, "test": 6}, 8
FIRST = {"train": 0, "validation": 50, "test": 100}


def images(split):
    """Images whose first row reads: class, drawing, and something for rotations to turn."""
    array = np.zeros((CLASSES[split], DRAWINGS, SIZE, SIZE, 1), np.uint8)
    array[:, :, 0, 0, 0] = FIRST[split] + np.arange(CLASSES[split])[:, None]
    array[:, :, 0, 1, 0] = np.arange(DRAWINGS)
    array[:, :, 0, 2, 0] = 255
    return array


def make(**kwargs):
    return Classification(
        {split: images(split) for split in SPLITS}, **{"ways": 4, "shots": 3, "query_size": 5, **kwargs}
    )


def read(x):
    """Class and drawing of float images `[..., size, size, 1]`."""
    values = np.rint(np.asarray(x)[..., 0, :2, 0] * 255).astype(int)
    return values[..., 0], values[..., 1]


def sample(task, index=0, count=3, split="train", seed=0):
    return task.sample(seed, tf.convert_to_tensor(index), count, split)


def test_the_fingerprint_is_that_of_the_images():
    """Not of how episodes are drawn from them; one pixel or the split of one image makes another."""
    found = make().fingerprint
    assert make(ways=3, continual=True, rotations=True).fingerprint == found
    changed = {split: images(split) for split in SPLITS}
    changed["test"][-1, -1, -1, -1] = 1
    resplit = {split: images(split) for split in SPLITS}
    resplit["validation"] = np.concatenate([resplit["validation"], resplit["test"][:1]])
    resplit["test"] = resplit["test"][1:]
    others = [Classification(one, ways=4, shots=3, query_size=5).fingerprint for one in (changed, resplit)]
    assert len({found, *others}) == 3


@pytest.mark.parametrize("continual", [False, True])
def test_shapes_and_ranges(continual):
    task = make(continual=continual)
    episode = sample(task)
    assert (task.steps, task.batch_size, task.query_examples, task.num_concepts, task.num_outputs) == (12, 1, 20, 4, 4)
    assert episode.support_x.shape == (12, 3, 1, SIZE, SIZE, 1) and episode.support_y.shape == (12, 3, 1, 4)
    assert episode.query_x.shape == (3, 20, SIZE, SIZE, 1) and episode.query_y.shape == (3, 20, 4)
    assert all(part.dtype == tf.float32 for part in episode[:4])
    assert np.min(episode.query_x) == 0 and np.max(episode.query_x) == 1


@pytest.mark.parametrize("continual", [False, True])
@pytest.mark.parametrize("split", SPLITS)
def test_episode_is_ways_classes_with_disjoint_support_and_query(split, continual):
    task = make(continual=continual)
    episode = sample(task, split=split, count=8)
    for i in range(8):
        support, query = read(episode.support_x[:, i, 0]), read(episode.query_x[i])
        labels = np.argmax(episode.support_y[:, i, 0], -1), np.argmax(episode.query_y[i], -1)
        for y in (episode.support_y[:, i, 0], episode.query_y[i]):
            np.testing.assert_array_equal(np.sort(y, -1), np.eye(4)[[-1] * len(y)])
        concepts = query[0].reshape(4, 5)
        np.testing.assert_array_equal(concepts, concepts[:, :1].repeat(5, 1))
        assert len(set(concepts[:, 0])) == 4
        assert set(concepts[:, 0]) <= set(FIRST[split] + np.arange(CLASSES[split]))
        output_of = dict(zip(query[0], labels[1]))
        assert sorted(output_of.values()) == [0, 1, 2, 3]
        assert [output_of[c] for c in query[0]] == list(labels[1])
        assert [output_of[c] for c in support[0]] == list(labels[0])
        assert sorted(support[0]) == sorted(concepts[:, 0].repeat(3))
        assert len({*zip(*support), *zip(*query)}) == 4 * (3 + 5)


def test_continual_lifetime_goes_class_after_class_in_the_order_of_the_query():
    episode = sample(make(continual=True), count=10)
    orders = set()
    for i in range(10):
        np.testing.assert_array_equal(read(episode.support_x[:, i, 0])[0], read(episode.query_x[i, ::5])[0].repeat(3))
        orders.add(tuple(np.argmax(episode.query_y[i, ::5], -1)))
    assert len(orders) > 1, "outputs must not tell when a class was learned"


def test_shuffled_lifetime_mixes_classes():
    episode = sample(make(), count=10)
    seen = [read(episode.support_x[:, i, 0])[0] for i in range(10)]
    changes = [np.count_nonzero(np.diff(classes)) for classes in seen]
    # A shuffle changes class at 9 of 11 steps on average; class after class at 3.
    assert np.mean(changes) > 7
    assert len({tuple(np.unique(classes, return_inverse=True)[1]) for classes in seen}) == 10


def test_classes_and_drawings_are_drawn_evenly():
    task = make(ways=3, shots=1, query_size=1)
    episode = tf.function(lambda: sample(task, count=900))()
    classes, drawings = read(episode.query_x)
    for values, kinds in ((classes, 9), (drawings, 8)):
        counts = np.bincount(values.reshape(-1), minlength=kinds)
        # 2,700 draws; five standard deviations.
        assert np.abs(counts / 2700 - 1 / kinds).max() < 5 * np.sqrt(1 / kinds / 2700)


def test_same_seed_same_lifetimes_in_any_batches_and_compiled_or_not():
    task = make(rotations=True)
    together = sample(task, index=5, count=4)
    for jit_compile in (False, True):
        compiled = tf.function(lambda i: sample(task, i, 4), jit_compile=jit_compile)(tf.constant(5))
        tf.nest.map_structure(np.testing.assert_array_equal, compiled, together)
    alone = sample(task, index=7, count=1)
    np.testing.assert_array_equal(alone.support_x[:, 0], together.support_x[:, 2])
    np.testing.assert_array_equal(alone.query_y[0], together.query_y[2])
    assert np.any(sample(task, index=5, count=4, seed=1).query_x != together.query_x)


def oriented(x, orientation):
    """Images `[..., size, size, channels]` turned by quarters, and mirrored if beyond the fourth of them."""
    turned = np.rot90(x, orientation % 4, axes=(-3, -2))
    return turned[..., ::-1, :] if orientation >= 4 else turned


@pytest.mark.parametrize(
    "rotations, mirrors, orientations", [(True, False, range(4)), (False, True, (0, 4)), (True, True, range(8))]
)
def test_turned_and_mirrored_classes_are_meta_training_classes_of_their_own(rotations, mirrors, orientations):
    task = make(rotations=rotations, mirrors=mirrors, ways=5)
    total = 9 * len(orientations)
    assert [task.num_classes(split) for split in SPLITS] == [total, 5, 6]
    base, seen, both = images("train")[:, :, None], set(), False
    assert len({oriented(drawings[1, 0], o).tobytes() for drawings in base for o in orientations}) == total
    kinds_of = {}
    for c, o in itertools.product(range(9), orientations):
        for image in oriented(base[c], o)[:, 0]:
            kinds_of.setdefault(image.tobytes(), set()).add((c, o))
    episode = tf.nest.map_structure(np.array, tf.function(lambda: sample(task, count=100))())
    for i in range(100):
        query = np.rint(episode.query_x[i] * 255).astype(np.uint8).reshape(5, 5, SIZE, SIZE, 1)
        found = []
        for concept in query:
            matches = set.intersection(*(kinds_of[x.tobytes()] for x in concept))
            assert len(matches) == 1, "a class is one drawing class in one orientation"
            found += matches
        assert len(set(found)) == 5
        both |= len({c for c, _ in found}) < 5
        seen |= set(found)
    assert len(seen) == total and both
    for split in ("validation", "test"):
        assert np.max(sample(task, split=split, count=20).query_x[:, :, 1:]) == 0


def test_the_graph_holds_no_images():
    array = np.zeros((40, 20, 28, 28, 1), np.uint8)
    array[0, 0, 0, 0, 0] = 255
    task = Classification(dict.fromkeys(SPLITS, array))
    for split in SPLITS:
        concrete = tf.function(lambda i, split=split: sample(task, i, 1, split)).get_concrete_function(tf.constant(0))
        assert len(concrete.graph.as_graph_def().SerializeToString()) < 100_000


def test_output_layer_alone_learns_separable_classes():
    """With `alpha` 1 / shots on zero weights, Oja moves each output towards its class mean."""
    arrays = {split: np.zeros((6, 20, 3, 3, 1), np.uint8) for split in SPLITS}
    noise = np.random.default_rng(0).integers(0, 100, (6, 20))
    for array in arrays.values():
        for c in range(6):
            array[c, :, c // 3, c % 3, 0] = 255
            array[c, :, 2, 2, 0] = noise[c]
    task = Classification(arrays, continual=True)
    options = {"plasticity_scale": 0.2, "plasticity_init": 1.0, "kernel_initializer": "zeros"}
    network = build((), task.input_shape, task.num_outputs, 1, lambda is_output: options)
    learner = FeedbackLearner(network, "target", clamp_output=True)
    episode = sample(task, split="test")
    state = lifetime.run(learner, episode).state
    outputs = learner.predict(state, learner.encode(episode.query_x))
    np.testing.assert_array_equal(task.error(outputs, episode.query_y), [0, 0, 0])
    np.testing.assert_array_equal(task.concept_errors(outputs, episode.query_y), np.zeros((3, 5)))
    wrong = task.concept_errors(tf.roll(outputs, 1, axis=-1), episode.query_y)
    np.testing.assert_array_equal(wrong, np.full((3, 5), 100))


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"ways": 6}, "--ways=6 is more than the 5 validation classes; legal values are 2 to 5"),
        ({"ways": 1}, "--ways=1 is too small; legal values are 2 or more"),
        ({"shots": 2.0}, "--shots=2.0 is not of the right type; legal is an integer"),
        ({"distortion": float("nan")}, "--distortion=nan is not a finite number"),
        ({"shots": 4}, "--shots=4 and --query_size=5 take 9 images .* legal values add up to at most 8"),
    ],
)
def test_wrong_options_are_refused_in_one_line(kwargs, message):
    with pytest.raises(InputError, match=message) as error:
        make(**kwargs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_picture_shows_every_image(channels):
    array = np.arange(5 * 6 * 4 * 4 * channels).reshape(5, 6, 4, 4, channels).astype(np.uint8)
    task = Classification(dict.fromkeys(SPLITS, array), 3, 2, 4)
    episode = sample(task, count=1, split="validation")
    figure = task.draw(episode, np.roll(episode.query_y, 1, -1), episode.query_y)
    support, query = figure.axes
    assert support.images[0].get_array().shape[:2] == (3 * 4, 2 * 4)
    assert query.images[0].get_array().shape[:2] == (3 * 4, 4 * 4)
    assert [text.get_text() for text in query.texts] == [str(i + 1) for i in np.argmax(episode.query_y[0], -1)]
    assert figure.get_suptitle() == "errors in the query: 100% before the lifetime, 0% after"


def test_lifetimes_have_a_fixed_length():
    task = make()
    assert task.with_lifetime(12) is task
    with pytest.raises(InputError, match="--lifetime=24 does not go with Classification.* the legal value is 12"):
        task.with_lifetime(24)


def test_a_subclass_with_images_of_its_own():
    """As the docstring has it: registered, its options those of `Classification`."""
    registry = Registry("test_classification_task")

    @registry.register("digits")
    class Digits(Classification):
        def __init__(self, **options):
            super().__init__({split: images(split) for split in SPLITS}, **options)

    options = registry.options("digits")(ways=4, shots=3, query_size=5)
    task = Choice(registry["digits"], options)()
    assert (task.steps, task.query_examples) == (12, 20)
    tf.nest.map_structure(np.testing.assert_array_equal, sample(task), sample(make()))
