"""Small random affine distortions of images, for meta-training."""

import tensorflow as tf


def distorted(images: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Returns images turned, scaled, sheared and shifted at random, each independently.

    The output at `p` is the input at `c + (I + E) (p - c) + t` with the centre `c`, the
    entries of `E` from `U[-strength, strength]` and those of `t` from the same times the
    size: a strength of 0.1 turns by up to about 6 degrees and shifts by up to a tenth.

    Args:
        images: float `[..., size, size, channels]`.
        seed: stateless seed, int32 `[2]`.
        strength: see above.
    """
    shape = images.shape
    size = shape[-2]
    flat = tf.reshape(images, [-1, *shape[-3:]])
    draws = tf.random.stateless_uniform([flat.shape[0], 6], seed, -strength, strength)
    xx, xy, yx, yy, shift_x, shift_y = tf.unstack(draws, axis=1)
    centre = (size - 1) / 2
    # Rows of [1 + xx, xy, offset; yx, 1 + yy, offset; 0, 0], which keep the centre in place.
    offset_x = size * shift_x - centre * (xx + xy)
    offset_y = size * shift_y - centre * (yx + yy)
    zeros = tf.zeros_like(xx)
    transforms = tf.stack([1 + xx, xy, offset_x, yx, 1 + yy, offset_y, zeros, zeros], axis=1)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=flat,
        transforms=transforms,
        output_shape=[size, size],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return tf.reshape(moved, shape)
