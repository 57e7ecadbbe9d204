"""What is drawn in a lifetime comes from its stateless seed; seeds of a meta-batch are int32 `[lifetimes, 2]`."""

import math
from collections.abc import Sequence

import tensorflow as tf

# Named, because the default algorithm depends on the device.
ALGORITHM = "philox"
# Large odd numbers, which spread neighbouring seeds over all of int32.
SPREAD, ODD = 1640531527, 741103597


def fold(seeds: tf.Tensor | None, number: int) -> tf.Tensor | None:
    """Returns seeds of another draw, which have nothing in common with the ones given.

    Args:
        seeds: int32 `[lifetimes, 2]`, or None.
        number: of the draw.
    """
    if seeds is None:
        return None
    # One operation for all lifetimes, one to one for every number: streams of different seeds are independent.
    return tf.bitwise.bitwise_xor(tf.convert_to_tensor(seeds), (number + 1) * SPREAD % 2**31) * ODD + number


def normal(seeds: tf.Tensor, shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
    """Returns standard normal numbers `[lifetimes, *shape]`, each lifetime's from its own seed.

    By Box and Muller from random integers: of these XLA makes the same as TensorFlow's
    kernels, of normal numbers it does not.
    """

    def draw(seed: tf.Tensor) -> tf.Tensor:
        bits = tf.random.stateless_uniform([2, *shape], seed, None, None, tf.int32, alg=ALGORITHM)
        # As many bits as float32 has, and never zero.
        numbers = tf.cast(tf.bitwise.right_shift(bits, 8) + 2**23, dtype)
        first, second = tf.unstack((numbers + 0.5) / 2**24)
        return tf.sqrt(-2 * tf.math.log(first)) * tf.cos(2 * math.pi * second)

    return tf.map_fn(draw, tf.convert_to_tensor(seeds), fn_output_signature=tf.TensorSpec(shape, dtype))


def once_each(tensor: tf.Tensor, seeds: tf.Tensor | None) -> tf.Tensor:
    """Returns a tensor once per lifetime, `[lifetimes, ...]`; as it is without seeds."""
    if seeds is None:
        return tensor
    return tf.broadcast_to(tensor, tf.concat([tf.shape(seeds)[:1], tensor.shape], 0))
