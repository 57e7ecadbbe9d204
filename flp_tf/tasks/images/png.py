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
# Color types: one channel; and colors, a palette, or transparency.
GRAY, OTHERS = 0, (2, 3, 4, 6)
TRANSPARENCY = b"tRNS"
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
        InputError: naming the first file that cannot be decoded, or has one color everywhere.
    """
    files = list(pngs.items())
    parts = [files[first : first + TOGETHER] for first in range(0, len(files), TOGETHER)]
    return np.concatenate([resized(255 - np.stack([_decoded(*file) for file in part]), size) for part in parts])


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
        InputError: if it is no PNG image, is damaged, or has a palette, colors or transparency.
    """
    if not png.startswith(SIGNATURE):
        raise InputError(f"{name} is {'not a PNG image' if png else 'empty'}; expected a PNG image")
    position, kinds, width, height, color = len(SIGNATURE), [], 0, 0, GRAY
    while position + FRAME <= len(png) and kinds[-1:] != [b"IEND"]:
        (length,) = struct.unpack_from(">I", png, position)
        kind, end = png[position + 4 : position + 8], position + length + FRAME
        if end > len(png) or zlib.crc32(png[position + 4 : end - 4]) != int.from_bytes(png[end - 4 : end], "big"):
            break
        if kind == b"IHDR" and length == HEADER.size:
            width, height, _, color = HEADER.unpack_from(png, position + 8)[:4]
        kinds.append(kind)
        position = end
    whole = kinds[:1] == [b"IHDR"] and kinds.count(b"IHDR") == 1 and kinds[-1:] == [b"IEND"]
    if not whole or not 0 < width * height <= MOST_PIXELS or color not in (GRAY, *OTHERS):
        raise InputError(f"{name} is damaged or cut off; expected a PNG image")
    if color != GRAY or TRANSPARENCY in kinds:
        raise InputError(f"{name} has a palette, colors or transparency; expected a PNG image with one gray channel")
    return width, height


def _decoded(name: str, png: bytes) -> np.ndarray:
    try:
        image = tf.io.decode_png(png, channels=1).numpy()
    except tf.errors.InvalidArgumentError:
        raise InputError(f"{name} cannot be decoded; expected a PNG image") from None
    if image.min() == image.max():
        raise InputError(f"{name} has one color everywhere; expected a drawing in black on white")
    return image
