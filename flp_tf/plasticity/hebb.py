"""Hebb's rule: the product of presynaptic and postsynaptic activity."""

import tensorflow as tf


def hebb(kernel: tf.Tensor, pre: tf.Tensor, post: tf.Tensor) -> tf.Tensor:
    """Hebbian direction `sum_n pre_n^T post_n` (paper, section 4).

    Args:
        kernel: fast weights `[..., in, out]`; Hebb's rule does not depend on them.
        pre: presynaptic activity `[..., batch, in]`.
        post: postsynaptic activity `[..., batch, out]`.

    Returns:
        The direction `[..., in, out]`, summed over the batch.
    """
    del kernel
    return tf.matmul(pre, post, transpose_a=True)
