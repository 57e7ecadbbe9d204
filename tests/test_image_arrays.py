"""Which arrays of images a classification task takes, and what it says of others."""

import numpy as np
import pytest
import tensorflow as tf
from test_classification import images, sample

from flp_tf.errors import InputError
from flp_tf.tasks import SPLITS, Classification
from flp_tf.tasks.images.cache import resized

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["float64", "float16", "tensor", "bool"])
def test_images_of_other_types_give_the_same_episodes(kind):
    """Floats in [0, 1] are taken as they are, booleans as 0 and 1."""
    binary = {split: (images(split) > 60).astype(np.uint8) * np.uint8(255) for split in SPLITS}
    convert = {
        "float64": lambda x: x / 255.0,
        "float16": lambda x: (x / 255).astype(np.float16),
        "tensor": tf.constant,
        "bool": lambda x: x > 0,
    }[kind]
    expected = sample(Classification(binary, 4, 3, 5), count=2)
    actual = sample(Classification({split: convert(array) for split, array in binary.items()}, 4, 3, 5), count=2)
    assert np.max(actual.query_x) == 1
    tf.nest.map_structure(np.testing.assert_array_equal, actual, expected)


def test_float_images_keep_their_precision():
    array = np.full((5, 8, 3, 3, 1), 0.123456789)
    array[..., 0, 0, 0] = 0
    query = sample(Classification(dict.fromkeys(SPLITS, array), 4, 3, 5)).query_x
    np.testing.assert_allclose(query[..., 1:, :, :], 0.123456789, rtol=1e-7)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: x.astype(int), "test images are int64; expected uint8, booleans, or floats in .0, 1."),
        (lambda x: x.astype(str), "test images are <U3; expected uint8"),
        (lambda x: x.astype(float), "test images are float64 from 0.0 to 255.0; expected .* floats in .0, 1."),
        (
            lambda x: np.where(x == 255, np.float32(1.0000001), np.float32(0.25)),
            "test images are float32 from 0.25 to 1.0000001; expected",
        ),
        (lambda x: x / 255.0 - 0.5, "test images are float64 from -0.5 to 0.5; expected"),
        (lambda x: np.where(x > 0, np.nan, 0.0), "test images contain NaN; expected"),
        (lambda x: x * 0, "test images have the value 0 everywhere; expected images with content"),
        (lambda x: np.full(x.shape, 0.5), "test images have the value 0.5 everywhere"),
        (lambda x: x == 1000, "test images have the value False everywhere"),
        (
            lambda x: tf.cast(x > 60, tf.bfloat16),
            "test images are bfloat16; expected .* floats in .0, 1. .float16, float32, float64.",
        ),
        (lambda x: np.ma.masked_equal(x, 0), "test images have a mask, which would have no effect; expected"),
        (lambda x: list(np.ma.masked_equal(x, 0)), "test images have a mask, which would have no effect; expected"),
        (lambda x: [tuple(of_class) for of_class in np.ma.masked_equal(x, 0)], "test images have a mask, which would"),
        (lambda x: x[..., 0], r"test images have shape \(6, 8, 3, 3\); expected .classes, drawings, size, size, chan"),
        (lambda x: x[0], r"test images have shape \(8, 3, 3, 1\); expected"),
        (lambda x: x[:, :, :2], r"test images have shape \(6, 8, 2, 3, 1\); expected"),
        (lambda x: x[:0], r"test images have shape \(0, 8, 3, 3, 1\), which is empty; expected"),
        (lambda x: x[:, :, :2, :2], r"images of all splits need one shape .size, size, channels.; found .*\(2, 2, 1\)"),
        (
            lambda x: (x > 60).astype(np.uint8),
            "test images are uint8 from 0 to 1, where 255 is white; expected uint8, b",
        ),
        (lambda x: [x[0], x[1, :4]], "test images have no common shape; expected .classes, drawings, size, size, chan"),
        (lambda x: x.astype(complex), "test images are complex128; expected uint8, booleans, or floats in .0, 1."),
        (lambda x: None, r"test images have shape \(\); expected"),
    ],
)
def test_wrong_images_are_refused_in_one_line(change, message):
    arrays = {split: images(split) for split in SPLITS}
    with pytest.raises(InputError, match=message) as error:
        Classification({**arrays, "test": change(arrays["test"])}, 4, 3, 5)
    assert "\n" not in str(error.value)


def test_images_without_values_are_refused_in_one_line():
    """As those of a tensor in a graph are."""

    @tf.function(autograph=False)
    def in_graph(array):
        Classification(dict.fromkeys(SPLITS, array), 4, 3, 5)

    with pytest.raises(InputError, match="^train images are symbolic, without values; make the task outside tf.func"):
        in_graph(images("train"))


def test_float_images_are_not_scaled_to_nothing():
    """As bytes, floats in [0, 1] would all be 0."""
    with pytest.raises(InputError, match="images to be scaled are float32 of shape .2, 4, 4, 1.; expected uint8 .imag"):
        resized(np.full((2, 4, 4, 1), 0.4, np.float32), 2)
    with pytest.raises(InputError, match="images to be scaled are uint8 of shape .4, 4, 1.; expected uint8 .images"):
        resized(np.full((4, 4, 1), 4, np.uint8), 2)
    np.testing.assert_array_equal(resized(np.full((2, 4, 4, 1), 4, np.uint8), 2), np.full((2, 2, 2, 1), 4))


def test_missing_splits_are_told():
    with pytest.raises(InputError, match="images are given for train, val; expected .* train, validation, test"):
        Classification({"train": images("train"), "val": images("validation")})
    with pytest.raises(InputError, match="images are given for a ndarray; expected a dictionary"):
        Classification(images("train"))
