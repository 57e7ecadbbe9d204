"""Hebb's rule: what fires together wires together."""

import tensorflow as tf


def hebb(kernel: tf.Tensor, pre: tf.Tensor, post: tf.Tensor) -> tf.Tensor:
    """Hebbian direction `sum_n pre_n^T post_n` (paper, section 3).

    Args:
        kernel: fast weights `[..., in, out]`; Hebb's rule does not look at them.
        pre: presynaptic activity `[..., batch, in]`.
        post: postsynaptic activity `[..., batch, out]`.

    Returns:
        The direction `[..., in, out]`, summed over the batch.
    """
    del kernel
    return tf.matmul(pre, post, transpose_a=True)
