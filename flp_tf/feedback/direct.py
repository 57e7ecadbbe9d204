"""Direct feedback from the output, as in the paper."""

import math

import tensorflow as tf

from flp_tf.feedback.base import Feedback


class DirectFeedback(Feedback):
    """`z = act(f B + c)`, or several such layers in a row (paper, section 3)."""

    def build_pathway(self, activity_shape: tuple[int, ...]) -> None:
        sizes = (self.signal_size, *self.hidden_units, math.prod(activity_shape))
        self.kernels, self.biases = [], []
        for i, (size_in, size_out) in enumerate(zip(sizes, sizes[1:])):
            kernel = self.add_weight(
                name=f"kernel_{i}",
                shape=(size_in, size_out),
                initializer="he_normal",
                trainable=self.train_kernels,
            )
            bias = self.add_weight(name=f"bias_{i}", shape=(size_out,), initializer="zeros")
            self.kernels.append(kernel)
            self.biases.append(bias)

    def pathway(self, signal: tf.Tensor) -> tf.Tensor:
        activity = signal
        for kernel, bias in zip(self.kernels, self.biases):
            activity = self.activation(tf.tensordot(activity, kernel.value, 1) + bias)
        if len(self.activity_shape) > 1:
            batch_axes = tf.shape(signal)[:-1]
            activity = tf.reshape(activity, tf.concat([batch_axes, self.activity_shape], 0))
        return activity
