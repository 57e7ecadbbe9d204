"""Losses and errors: one number per lifetime, whatever stands before it."""

import tensorflow as tf


def mean_squared_error(outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Mean of `(y - outputs)^2` over examples and outputs.

    Args:
        outputs: `[..., examples, outputs]`.
        y: targets of the same shape.

    Returns:
        `[...]`, in squared units of `y`.
    """
    return tf.reduce_mean(tf.math.squared_difference(outputs, y), axis=[-2, -1])


def cross_entropy(outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Softmax cross-entropy of logits, mean over examples.

    Args:
        outputs: logits `[..., examples, classes]`.
        y: one-hot targets of the same shape.

    Returns:
        `[...]`, in nats.
    """
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=outputs), axis=-1)


def error_percent(outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Share of examples whose largest output is not their class.

    Args:
        outputs: logits `[..., examples, classes]`.
        y: one-hot targets of the same shape.

    Returns:
        `[...]`, in percent.
    """
    wrong = tf.not_equal(tf.argmax(outputs, -1), tf.argmax(y, -1))
    return 100.0 * tf.reduce_mean(tf.cast(wrong, outputs.dtype), axis=-1)
