"""Meta-training images that are mirrored at random, each on its own."""

import numpy as np
import tensorflow as tf

from flp_tf.tasks import SPLITS, Classification

CLASSES, DRAWINGS, SIZE = 6, 8, 4
# Every image has its class and drawing in both halves, and is not its own mirror image.
IMAGES = np.zeros((CLASSES, DRAWINGS, SIZE, SIZE, 1), np.uint8)
IMAGES[:, :, 0, :, 0] = 10 * np.arange(1, CLASSES + 1)[:, None, None]
IMAGES[:, :, 1, :, 0] = 10 * np.arange(1, DRAWINGS + 1)[None, :, None]
IMAGES[:, :, 2, 0, 0] = 255
ARRAYS = dict.fromkeys(SPLITS, IMAGES)


def drawn(split="train", lifetimes=200, **options):
    """Support and query of many lifetimes as one array of bytes, and the task."""
    task = Classification(ARRAYS, 3, 2, 4, **options)
    episode = tf.function(lambda: task.sample(0, tf.constant(0), lifetimes, split))()
    x = np.concatenate([part.numpy().reshape(-1, SIZE, SIZE) for part in (episode.support_x, episode.query_x)])
    return np.rint(x * 255).astype(np.uint8), task


def mirrored_ones(x):
    """Which images are mirrored; each is an image of the data or its mirror image."""
    place = x[:, 0, 0] // 10 - 1, x[:, 1, 0] // 10 - 1
    original = IMAGES[place][..., 0]
    same, mirrored = ((x == kind).all((1, 2)) for kind in (original, original[..., ::-1]))
    assert np.all(same ^ mirrored)
    return mirrored


def test_half_of_the_images_are_mirrored_each_on_its_own():
    x, task = drawn(flips=True)
    mirrored = mirrored_ones(x)
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(x))
    assert task.num_classes("train") == CLASSES, "no classes are added"
    # Neither a whole lifetime nor a whole class is mirrored together.
    query = mirrored[-200 * 12 :].reshape(200, 3, 4)
    assert abs((query.min(-1) == query.max(-1)).mean() - 1 / 8) < 5 * np.sqrt(1 / 8 / 600)


def test_nothing_else_of_an_episode_changes():
    plain, _ = drawn()
    flipped, _ = drawn(flips=True)
    assert not mirrored_ones(plain).any()
    np.testing.assert_array_equal(np.sort(plain, -1), np.sort(flipped, -1))


def test_validation_and_meta_test_are_not_mirrored():
    for split in ("validation", "test"):
        x, _ = drawn(split, 20, flips=True)
        assert not mirrored_ones(x).any()


def test_flips_and_distortions_are_drawn_apart():
    """With a distortion, the same images are mirrored; without flips, the same distortions are drawn."""
    task = Classification(ARRAYS, 3, 2, 4, distortion=1e-6, flips=True)
    x = task.sample(0, tf.constant(0), 20, "train").query_x.numpy().reshape(-1, SIZE, SIZE)
    mirrored = mirrored_ones(np.rint(x * 255).astype(np.uint8))
    plain, _ = drawn(flips=True, lifetimes=20)
    np.testing.assert_array_equal(mirrored, mirrored_ones(plain[-20 * 12 :]))
