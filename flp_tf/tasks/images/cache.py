"""Decoded images in one compact file, which is made again if it cannot be read."""

import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging


def cached(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the arrays of an `.npz` file, made and written there if need be.

    The file appears whole or not at all, so that runs may share it, and checksums
    inside it reveal damage.

    Args:
        path: the file; its name must depend on all that the arrays depend on.
        make: returns the arrays by name.
    """
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        logging.info("Decoding images into %s", path)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        logging.warning("Decoding images again: %s is damaged (%s)", path, error)
    arrays = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".partial", delete=False) as file:
        try:
            np.savez_compressed(file, **arrays)
            file.close()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    return arrays


def resized(images: tf.Tensor, size: int) -> np.ndarray:
    """Scales images with antialiasing: each new pixel is a mean over all that it covers.

    Args:
        images: bytes `[images, height, width, channels]`.
        size: new height and width.

    Returns:
        uint8 `[images, size, size, channels]`.
    """
    scaled = tf.image.resize(images, [size, size], method="bilinear", antialias=True)
    return tf.cast(tf.round(scaled), tf.uint8).numpy()


def decode_ink(pngs: Sequence[bytes], size: int) -> np.ndarray:
    """Returns drawings in black on white as ink, uint8 `[drawings, size, size, 1]`, 255 where black."""
    paper = tf.stack([tf.io.decode_png(png, channels=1) for png in pngs])
    return resized(255 - paper, size)
