"""Drawings in PNG files, checked before they are decoded."""

import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.tasks.images.cache import resized

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Bytes of a chunk that are not its content: length, type and checksum.
FRAME = 12
HEADER = struct.Struct(">II5B")
# The color type of images that have one channel and no palette.
GRAY = 0
# More pixels than a drawing has; a header that says so is damaged.
MOST_PIXELS = 10**8
# Drawings that are scaled together: a few at a time take three times as long.
TOGETHER = 400


def decode_ink(pngs: Mapping[str, bytes], size: int) -> np.ndarray:
    """Returns gray drawings in black on white as ink, uint8 `[drawings, size, size, 1]`, 255 where black.

    Args:
        pngs: content of the files, by name; they have passed `check_sizes`.
        size: height and width that they are scaled to.

    Raises:
        InputError: naming the first file that cannot be decoded, or is white everywhere.
    """
    files = list(pngs.items())
    parts = [files[first : first + TOGETHER] for first in range(0, len(files), TOGETHER)]
    images = np.concatenate([resized(255 - tf.stack([_decoded(*file) for file in part]), size) for part in parts])
    blank = np.flatnonzero(~images.any(axis=(1, 2, 3)))
    if blank.size:
        raise InputError(f"{files[blank[0]][0]} is white everywhere; expected a drawing in black")
    return images


def check_sizes(pngs: Iterable[tuple[str, bytes]]) -> None:
    """Raises InputError unless all files are gray PNG images of one size.

    Args:
        pngs: name and content of every file.
    """
    sizes = {name: dimensions(name, png) for name, png in pngs}
    [(usual, _)] = Counter(sizes.values()).most_common(1)
    for name, (width, height) in sizes.items():
        if (width, height) != usual:
            raise InputError(f"{name} has {width}x{height} pixels; expected {usual[0]}x{usual[1]}, as most have")


def dimensions(name: str, png: bytes) -> tuple[int, int]:
    """Returns width and height of a gray PNG file, whose chunks and checksums are verified.

    Source: https://www.w3.org/TR/png-3/#5DataRep

    Args:
        name: of the file, for messages.
        png: its content.

    Raises:
        InputError: if it is no PNG image, is damaged, or has colors or transparency.
    """
    if not png.startswith(SIGNATURE):
        raise InputError(f"{name} is {'not a PNG image' if png else 'empty'}; expected a PNG image")
    position, kinds, size, color = len(SIGNATURE), [], (0, 0), GRAY
    while position + FRAME <= len(png) and kinds[-1:] != [b"IEND"]:
        (length,) = struct.unpack_from(">I", png, position)
        kind, end = png[position + 4 : position + 8], position + length + FRAME
        if end > len(png) or zlib.crc32(png[position + 4 : end - 4]) != int.from_bytes(png[end - 4 : end], "big"):
            break
        if kind == b"IHDR" and length == HEADER.size:
            *size, _, color = HEADER.unpack_from(png, position + 8)[:4]
        kinds.append(kind)
        position = end
    if kinds[:1] != [b"IHDR"] or kinds[-1:] != [b"IEND"] or not 0 < size[0] * size[1] <= MOST_PIXELS:
        raise InputError(f"{name} is damaged or cut off; expected a PNG image")
    if color != GRAY:
        raise InputError(f"{name} has colors or transparency; expected a PNG image of black and white or gray")
    return tuple(size)


def _decoded(name: str, png: bytes) -> tf.Tensor:
    try:
        return tf.io.decode_png(png, channels=1)
    except tf.errors.InvalidArgumentError:
        raise InputError(f"{name} cannot be decoded; expected a PNG image") from None
