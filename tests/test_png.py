"""PNG files of drawings: which are read, and what is said of others."""

import io

import numpy as np
import pytest
from PIL import Image

from flp_tf.errors import InputError
from flp_tf.tasks.images.png import check_sizes, decode_ink

INK = np.random.default_rng(0).random((16, 16)) < 0.3


def png(image, **options):
    file = io.BytesIO()
    image.save(file, format="PNG", **options)
    return file.getvalue()


def gray():
    """Black on white, one byte for each pixel."""
    return Image.fromarray(np.where(INK, 0, 255).astype(np.uint8))


def read(content):
    files = {"a.png": png(gray()), "b.png": content}
    check_sizes(files.items())
    return decode_ink(files, 16)


@pytest.mark.parametrize("kind", ["1", "L"])
def test_black_and_white_is_read_as_ink(kind):
    np.testing.assert_array_equal(read(png(gray().convert(kind)))[1, :, :, 0], np.where(INK, 255, 0))


@pytest.mark.parametrize("kind", ["P", "LA", "RGB", "RGBA"])
def test_palettes_colors_and_transparency_are_refused(kind):
    with pytest.raises(InputError, match="^b.png has a palette, colors or transparency; expected .* one gray channel$"):
        read(png(gray().convert(kind)))


def test_a_transparent_shade_of_gray_is_refused():
    with pytest.raises(InputError, match=r"^b.png has a palette, colors or transparency"):
        read(png(gray(), transparency=0))


@pytest.mark.parametrize("value", [0, 254, 255])
def test_a_drawing_of_one_color_is_refused(value):
    with pytest.raises(InputError, match="^b.png has one color everywhere; expected a drawing in black on white$"):
        read(png(Image.fromarray(np.full((16, 16), value, np.uint8))))


HEADER = slice(8, 33)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda content: b"", "is empty; expected a PNG image"),
        (lambda content: b"x", "is not a PNG image"),
        (lambda content: content[:-1], "is damaged or cut off"),
        (lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:], "is damaged or cut off"),
        (lambda content: content[:33] + content[HEADER] + content[33:], "is damaged or cut off"),
        (lambda content: content[:8] + content[33:], "is damaged or cut off"),
    ],
)
def test_a_damaged_file_is_named(damage, message):
    """Empty, no image, cut off, a bit flipped, two headers, none."""
    with pytest.raises(InputError, match=f"^b.png {message}"):
        read(damage(png(gray())))
