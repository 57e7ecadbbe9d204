"""Decoded images in one compact file, which is made again if it cannot be read."""

import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from flp_tf.errors import InputError
from flp_tf.files import whole


def cached(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the arrays of an `.npz` file, made and written there if need be.

    The file appears whole or not at all, so that runs may share it, and checksums
    inside it reveal damage. Where it cannot be written, because it is another user's or the
    disk is full, that is said in a line, and nothing is kept.

    Args:
        path: the file; its name must depend on all that the arrays depend on.
        make: returns the arrays by name.

    Raises:
        InputError: if the path leads through something that is not a folder, or to a pipe or a device.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"--data_dir: {path} is in the way: it is no file; move it, or name another folder")
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        logging.info("Decoding images into %s", path)
    except NotADirectoryError as error:
        raise InputError(f"--data_dir: {path} cannot be read or written: {error.strerror}") from None
    except PermissionError:
        logging.info("Decoding images: %s is not ours to read", path)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        logging.warning("Decoding images again: %s is damaged (%s)", path, error)
    arrays = make()
    try:
        with whole(path) as file:
            np.savez_compressed(file, **arrays)
    except InputError as error:
        print(f"flp_tf: decoded images are not kept: {error}", file=sys.stderr)
    return arrays


def resized(images: tf.Tensor | np.ndarray, size: int) -> np.ndarray:
    """Scales images with antialiasing: each new pixel is a mean over all that it covers.

    Args:
        images: bytes `[images, height, width, channels]`.
        size: new height and width.

    Returns:
        uint8 `[images, size, size, channels]`.

    Raises:
        InputError: if the images are of another type: floats in [0, 1] would all be rounded to 0.
    """
    images = tf.convert_to_tensor(images)
    if images.dtype != tf.uint8 or images.shape.rank != 4:
        raise InputError(
            f"images to be scaled are {images.dtype.name} of shape {tuple(images.shape)}; "
            "expected uint8 [images, height, width, channels]"
        )
    scaled = tf.image.resize(images, [size, size], method="bilinear", antialias=True)
    return tf.cast(tf.round(scaled), tf.uint8).numpy()
