"""Oja's rule: Hebb with a decay that keeps each neuron's weights bounded."""

import tensorflow as tf


def oja(kernel: tf.Tensor, pre: tf.Tensor, post: tf.Tensor) -> tf.Tensor:
    """Oja's direction `sum_n pre_n^T post_n - W * sum_n post_n^2` (paper, section 4).

    Args:
        kernel: fast weights `W [..., in, out]`.
        pre: presynaptic activity `[..., batch, in]`.
        post: postsynaptic activity `[..., batch, out]`.

    Returns:
        The direction `[..., in, out]`, summed over the batch.
    """
    hebbian = tf.matmul(pre, post, transpose_a=True)
    decay = tf.reduce_sum(tf.square(post), axis=-2, keepdims=True)
    return hebbian - kernel * decay
