"""The sine task: its distribution, its order, its splits, and that episodes follow from seeds."""

import functools
import math

import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_close, to_numpy

from flp_tf.errors import InputError
from flp_tf.tasks import SPLITS, Sine
from flp_tf.tasks.sine import PHASE_BANDS

SINES, STEPS, BATCH, QUERIES = 3, 12, 4, 5


def make(continual=False, steps=STEPS):
    return Sine(num_sines=SINES, lifetime=steps, batch_size=BATCH, query_size=QUERIES, continual=continual)


def sample(task, index=0, count=1, split="train", seed=0):
    return to_numpy(task.sample(seed, tf.constant(index), count, split))


def number_of_sine(x):
    """Returns which sine each example belongs to; the inputs have to be one-hot."""
    one_hot = x[..., :-1]
    assert np.all(np.isin(one_hot, (0, 1))) and np.all(one_hot.sum(-1) == 1)
    return np.argmax(one_hot, -1)


def fit(x, y):
    """Returns amplitude and phase of `y = A sin(x + phase)` by least squares."""
    a, b = np.linalg.lstsq(np.stack([np.sin(x), np.cos(x)], -1), y, rcond=None)[0]
    return math.hypot(a, b), math.atan2(b, a)


@functools.cache
def sines(split, index=0, lifetimes=200):
    """Returns amplitudes and phases `[lifetimes, sines]`, as the task draws them."""
    seeds = [tf.random.split([index, i], 2) for i in range(lifetimes)]
    draws = [make().sample_sines(pair, split) for pair in seeds]
    return tuple(np.stack(column) for column in zip(*draws))


@pytest.mark.parametrize("continual", [False, True])
def test_shapes(continual):
    episode = sample(make(continual), count=2)
    assert episode.support_x.shape == (STEPS, 2, BATCH, SINES + 1)
    assert episode.support_y.shape == (STEPS, 2, BATCH, 1)
    assert episode.query_x.shape == (2, SINES * QUERIES, SINES + 1)
    assert episode.query_y.shape == (2, SINES * QUERIES, 1)
    assert all(part.dtype == np.float32 for part in episode[:4])
    assert episode.seed.shape == (2, 2) and episode.seed.dtype == np.int32


def test_static_shapes_in_a_graph():
    """XLA needs every shape when a meta-gradient is traced."""
    task = make()

    @tf.function(autograph=False)
    def draw(index):
        episode = task.sample(0, index, 2, "train")
        assert all(part.shape.is_fully_defined() for part in episode)
        return episode

    assert_close(to_numpy(draw(tf.constant(3))), sample(task, index=3, count=2), tolerance=1e-6)


@pytest.mark.parametrize("split", SPLITS)
def test_distribution(split):
    """Amplitudes U[0.1, 5] and phases U[0, pi] in every split: bounds, means and spread."""
    amplitude, phase = (part.ravel() for part in sines(split))
    for values, low, high in ((amplitude, 0.1, 5.0), (phase, 0.0, math.pi)):
        assert low <= values.min() < low + 0.02 * (high - low) and high - 0.02 * (high - low) < values.max() <= high
        error = (high - low) / math.sqrt(12 * values.size)
        assert abs(values.mean() - (low + high) / 2) < 4 * error
        assert values.std() == pytest.approx((high - low) / math.sqrt(12), rel=0.05)
    assert abs(np.corrcoef(amplitude, phase)[0, 1]) < 4 / math.sqrt(phase.size)


def test_inputs_cover_their_range():
    x = sample(make(steps=300)).support_x[..., -1]
    assert -5 <= x.min() < -4.9 and 4.9 < x.max() <= 5
    assert abs(x.mean()) < 4 * 10 / math.sqrt(12 * x.size)


def test_targets_are_the_sines():
    """Support and query targets against one fitted sine each, the same for both."""
    episode = sample(make(steps=30))
    for sine in range(SINES):
        support = number_of_sine(episode.support_x) == sine
        query = number_of_sine(episode.query_x) == sine
        amplitude, phase = fit(episode.support_x[support][:, -1], episode.support_y[support][:, 0])
        assert 0.1 <= amplitude <= 5 and 0 <= phase <= math.pi
        for inputs, targets, which in ((*episode[:2], support), (*episode[2:4], query)):
            assert_close(targets[which][:, 0], amplitude * np.sin(inputs[which][:, -1] + phase), tolerance=1e-5)


def test_continual_order():
    """Sine after sine, in equal parts; every batch is of one sine."""
    number = number_of_sine(sample(make(continual=True)).support_x[:, 0])
    assert np.array_equal(number, np.repeat(np.arange(SINES), STEPS // SINES)[:, None].repeat(BATCH, 1))


def test_shuffled_order():
    """The same number of batches of every sine, in an order of each lifetime's own."""
    number = number_of_sine(sample(make(), count=6).support_x)
    assert np.all(number == number[..., :1])
    orders = number[..., 0].T
    assert np.all(np.sort(orders) == np.repeat(np.arange(SINES), STEPS // SINES))
    assert len({tuple(order) for order in orders}) == 6


def test_order_changes_nothing_but_the_order():
    """Both kinds of lifetime of one seed are of the same sines and queries."""
    shuffled, continual = sample(make()), sample(make(continual=True))
    assert_close(tuple(shuffled[2:4]), tuple(continual[2:4]), tolerance=0)


def test_query_stands_sine_by_sine():
    number = number_of_sine(sample(make(), count=2).query_x)
    assert np.array_equal(number, [np.repeat(np.arange(SINES), QUERIES)] * 2)


def test_query_is_unseen():
    episode = sample(make(steps=300), count=2)
    assert not np.isin(episode.query_x[..., -1], episode.support_x[..., -1]).any()


def test_splits_have_no_sine_in_common():
    """Phases of two splits are never in the same band, nor at the border between two."""
    for number, split in enumerate(SPLITS):
        band = sines(split)[1].astype(np.float64) * PHASE_BANDS / math.pi
        assert np.all(np.floor(band).astype(int) % len(SPLITS) == number)
        assert np.all(np.abs(band - np.round(band)) > 0.003)


def test_splits_are_drawn_apart():
    """Lifetime i of one split says nothing about lifetime i of another."""
    parts = [to_numpy(make().compiled_sample(0, 0, 50, split)) for split in SPLITS]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        for name in ("support_x", "support_y", "query_x", "query_y"):
            first, second = (getattr(parts[i], name)[..., -1].ravel() for i in (one, other))
            assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(50 * SINES), name


def test_same_seed_same_episode():
    """To the last bit, in and out of a graph; another seed, index or split gives another one."""
    task = make()
    first = sample(task)
    assert_close(first, sample(make()), tolerance=0)
    for other in ({"seed": 1}, {"index": 1}, {"split": "test"}, {"split": "validation"}):
        assert all(np.any(one != two) for one, two in zip(first, sample(task, **other)))


def test_lifetimes_do_not_depend_on_the_meta_batch():
    """Lifetime 2 as one of four, as one of two and alone."""
    task = make()
    four, two, alone = sample(task, 0, 4), sample(task, 2, 2), sample(task, 2, 1)
    for i, axis in enumerate((1, 1, 0, 0, 0)):
        expected = np.take(four[i], 2, axis)
        assert np.array_equal(np.take(two[i], 0, axis), expected)
        assert np.array_equal(np.take(alone[i], 0, axis), expected)


def test_concept_errors():
    """Mean squared error sine by sine against NumPy, with any leading axes."""
    task = make()
    rng = np.random.default_rng(0)
    outputs, y = rng.normal(size=(2, 4, 2, SINES * QUERIES, 1))
    errors = task.concept_errors(tf.constant(outputs), tf.constant(y))
    squares = ((outputs - y) ** 2)[..., 0]
    expected = np.stack([squares[..., i * QUERIES : (i + 1) * QUERIES].mean(-1) for i in range(SINES)], -1)
    assert expected.shape == (4, 2, SINES)
    assert_close(errors, expected)
    assert_close(tf.reduce_mean(errors, -1), task.error(tf.constant(outputs), tf.constant(y)))


@pytest.mark.parametrize("continual", [False, True])
def test_another_lifetime(continual):
    """K times the steps of the same sines, everything else as it was."""
    task = make(continual)
    longer = task.with_lifetime(3 * STEPS)
    once, thrice = sample(task), sample(longer)
    assert thrice.support_x.shape == (3 * STEPS, *once.support_x.shape[1:])
    assert_close(tuple(thrice[2:]), tuple(once[2:]), tolerance=0)
    assert task.steps == STEPS and task.with_lifetime(STEPS) is task
    counts = [np.bincount(number_of_sine(episode.support_x).ravel()) for episode in (once, thrice)]
    assert np.array_equal(counts[1], 3 * counts[0])
    order = number_of_sine(thrice.support_x)[:, 0, 0]
    assert continual == bool(np.all(np.diff(order) >= 0))


def test_a_copy_of_another_length_keeps_what_a_subclass_has():
    """Without a call of its constructor, and with a compiled sample of its own."""

    class Shifted(Sine):
        def __init__(self, shift):
            super().__init__(SINES, STEPS, BATCH, QUERIES)
            self.shift = shift

        def sample_lifetime(self, seed, split):
            episode = super().sample_lifetime(seed, split)
            return episode._replace(support_y=episode.support_y + self.shift)

    task = Shifted(100.0)
    assert task.compiled_sample(0, 0, 1, "train").support_y.shape[0] == STEPS
    longer = task.with_lifetime(2 * STEPS)
    assert type(longer) is Shifted
    compiled = to_numpy(longer.compiled_sample(0, 0, 1, "train"))
    assert compiled.support_y.shape[0] == 2 * STEPS and compiled.support_y.min() > 90
    assert_close(compiled, sample(longer), tolerance=1e-5)


INDIVISIBLE = "--lifetime=400 is not divisible by --num_sines=3; legal .* multiples of 3"


def test_indivisible_lifetime():
    with pytest.raises(InputError, match=INDIVISIBLE):
        Sine(num_sines=3)
    with pytest.raises(InputError, match=INDIVISIBLE):
        make().with_lifetime(400)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_sines": 0}, "--num_sines=0 is too small; legal values are 1 or more"),
        ({"query_size": -1}, "--query_size=-1 is too small"),
        ({"lifetime": 0}, "--lifetime=0 is too small"),
        ({"lifetime": 40.0}, "--lifetime=40.0 is not of the right type; legal is an integer"),
        ({"continual": "false"}, "--continual='false' is not of the right type; legal is true or false"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(InputError, match=message):
        Sine(**options)


def test_wrong_lengths_are_told():
    for steps, message in ((0, "--lifetime=0 is too small"), (6.0, "--lifetime=6.0 is not of the right type")):
        with pytest.raises(InputError, match=message):
            make().with_lifetime(steps)


def test_picture_shows_every_sine():
    """Targets, and outputs before and after, of the first lifetime."""
    task = make()
    episode = sample(task, count=2)
    figure = task.draw(episode, np.zeros_like(episode.query_y), episode.query_y + 1)
    assert len(figure.axes) == SINES
    for i, axis in enumerate(figure.axes):
        which = slice(i * QUERIES, (i + 1) * QUERIES)
        order = np.argsort(episode.query_x[0, which, -1])
        target, before, after = (line.get_ydata() for line in axis.lines)
        np.testing.assert_array_equal(target, episode.query_y[0, which, 0][order])
        np.testing.assert_array_equal(before, np.zeros(QUERIES))
        np.testing.assert_allclose(after, target + 1)
        assert axis.get_title() == f"sine {i + 1}: MSE 1"
