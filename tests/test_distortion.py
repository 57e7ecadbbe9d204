"""Random affine distortions against closed forms."""

import numpy as np
import tensorflow as tf

from flp_tf.tasks.images import distortion


def blob(size: int = 33) -> np.ndarray:
    """A smooth bump, off the centre."""
    y, x = np.mgrid[:size, :size]
    return np.exp(-((x - 20) ** 2 + (y - 12) ** 2) / 18.0).astype("float32")[None, :, :, None]


def test_no_strength_changes_nothing():
    image = tf.constant(blob())
    np.testing.assert_allclose(distortion.distorted(image, tf.constant([1, 2]), 0.0), image, atol=1e-6)


def test_a_shift_moves_the_centre_of_mass(monkeypatch):
    """With E = 0, the output at p is the input at p + t: the bump moves by -t."""
    shift = tf.constant([[0, 0, 0, 0, 3 / 33, -2 / 33]], tf.float32)
    monkeypatch.setattr(tf.random, "stateless_uniform", lambda *args, **kwargs: shift)
    moved = distortion.distorted(tf.constant(blob()), tf.constant([0, 0]), 0.1).numpy()[0, :, :, 0]
    y, x = np.mgrid[:33, :33]
    np.testing.assert_allclose([np.average(x, weights=moved), np.average(y, weights=moved)], [17, 14], atol=0.02)


def test_scale_and_shear_keep_the_centre(monkeypatch):
    """The output at p is the input at c + (I + E)(p - c), computed pixel by pixel."""
    e = np.array([[0.1, 0.05], [-0.08, -0.1]], "float32")
    draws = tf.constant([[*e[0], *e[1], 0, 0]], tf.float32)
    monkeypatch.setattr(tf.random, "stateless_uniform", lambda *args, **kwargs: draws)
    moved = distortion.distorted(tf.constant(blob()), tf.constant([0, 0]), 0.1).numpy()[0, :, :, 0]
    y, x = np.mgrid[:33, :33]
    source = np.stack([x, y], -1) - 16 + (np.stack([x, y], -1) - 16) @ e.T + 16
    expected = np.exp(-((source[..., 0] - 20) ** 2 + (source[..., 1] - 12) ** 2) / 18.0)
    np.testing.assert_allclose(moved[3:-3, 3:-3], expected[3:-3, 3:-3], atol=0.02)


def test_every_image_has_its_own_and_the_seed_repeats_it():
    images = tf.constant(np.repeat(blob(), 6, axis=0).reshape(2, 3, 33, 33, 1))
    first, again = (distortion.distorted(images, tf.constant([3, 4]), 0.1).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, again)
    flat = first.reshape(6, -1)
    assert all(np.abs(flat[i] - flat[j]).max() > 0.01 for i in range(6) for j in range(i))
