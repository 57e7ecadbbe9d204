"""Arrays of images as users give them, checked."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from flp_tf.errors import InputError

AXES = "[classes, drawings, size, size, channels]"
FLOATS = ("float16", "float32", "float64")
EXPECTED = f"uint8, booleans, or floats in [0, 1] ({', '.join(FLOATS)})"


def checked(images: Mapping[str, np.ndarray], splits: Sequence[str]) -> dict[str, tf.Tensor]:
    """Returns images as tensors in which `tf.image.convert_image_dtype` finds values in [0, 1].

    Bytes stay bytes, booleans become 0 and 255, floats float32.

    Args:
        images: by split, `[classes, drawings, size, size, channels]`: NumPy arrays or tensors.
        splits: the splits that have to be there.

    Returns:
        By split, uint8 or float32 tensors of the same shapes.

    Raises:
        InputError: if a split is missing, or has another type, range or shape, or no content.
    """
    if not isinstance(images, Mapping) or set(images) != set(splits):
        given = ", ".join(map(str, images)) if isinstance(images, Mapping) else f"a {type(images).__name__}"
        raise InputError(f"images are given for {given}; expected a dictionary with {', '.join(splits)}")
    tensors = {split: _checked_split(split, images[split]) for split in splits}
    shapes = {split: tuple(tensors[split].shape[2:]) for split in splits}
    if len(set(shapes.values())) > 1:
        raise InputError(f"images of all splits need one shape [size, size, channels]; found {shapes}")
    return tensors


def _checked_split(split: str, images: np.ndarray) -> tf.Tensor:
    if _is_masked(images):
        raise InputError(f"{split} images have a mask, which would have no effect; expected an array without one")
    try:
        array = np.asarray(images)
    except ValueError:  # Lists of images of several shapes.
        raise InputError(f"{split} images have no common shape; expected {AXES}") from None
    except NotImplementedError:
        raise InputError(f"{split} images are symbolic, without values; make the task outside tf.function") from None
    if array.ndim != 5 or array.shape[2] != array.shape[3]:
        raise InputError(f"{split} images have shape {array.shape}; expected {AXES}")
    if 0 in array.shape:
        raise InputError(f"{split} images have shape {array.shape}, which is empty; expected {AXES}")
    if array.dtype.name not in ("uint8", "bool", *FLOATS):
        raise InputError(f"{split} images are {array.dtype}; expected {EXPECTED}")
    least, most = np.min(array), np.max(array)
    if np.isnan(least):  # As soon as one value is.
        raise InputError(f"{split} images contain NaN; expected {EXPECTED}")
    if least == most:
        raise InputError(f"{split} images have the value {least!s} everywhere; expected images with content")
    if array.dtype == np.uint8:
        if most == 1:
            raise InputError(f"{split} images are uint8 from 0 to 1, where 255 is white; expected {EXPECTED}")
        return tf.constant(array)
    if array.dtype == np.bool_:
        return tf.constant(array.astype(np.uint8) * np.uint8(255))
    if least < 0 or most > 1:
        raise InputError(f"{split} images are {array.dtype} from {least!s} to {most!s}; expected {EXPECTED}")
    return tf.constant(array, tf.float32)


def _is_masked(images: Any) -> bool:
    """Returns whether images, or any in lists of them, have a mask that hides something."""
    return any(map(_is_masked, images)) if isinstance(images, (list, tuple)) else np.ma.is_masked(images)
