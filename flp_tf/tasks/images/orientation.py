"""Images turned by quarters and mirrored."""

import tensorflow as tf

QUARTER_TURNS = 4
MIRRORED = 2


def quarter_turned(images: tf.Tensor, turns: tf.Tensor) -> tf.Tensor:
    """Returns images turned counter-clockwise by `90 * turns` degrees.

    Args:
        images: square ones `[classes, drawings, size, size, channels]`.
        turns: int32 `[classes]`, 0 to 3.
    """
    turns = tf.reshape(turns, [-1, 1, 1, 1, 1])
    images = tf.where(turns >= 2, tf.reverse(images, [2, 3]), images)
    return tf.where(turns % 2 == 1, tf.reverse(tf.transpose(images, [0, 1, 3, 2, 4]), [2]), images)


def mirrored(images: tf.Tensor, mirrors: tf.Tensor) -> tf.Tensor:
    """Returns images with left and right exchanged where `mirrors` is 1.

    Args:
        images: `[classes, drawings, height, width, channels]`.
        mirrors: int32 `[classes]`, or `[classes, drawings]`; 0 or 1.
    """
    each = tf.reshape(mirrors, [*mirrors.shape, *[1] * (images.shape.rank - mirrors.shape.rank)])
    return tf.where(each == 1, tf.reverse(images, [3]), images)
