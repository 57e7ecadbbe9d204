"""The contract of an initial distribution: where fast weights start."""

import tensorflow as tf

from flp_tf.component import Component


class Initial(Component):
    """Makes the first fast kernel of a lifetime from the slow kernel (paper, sections 4.1 and 8.3).

    `call(kernel, seeds)` returns the fast kernels. An initial distribution may have
    weights of its own, such as a spread per synapse: it makes them in
    `build(kernel_shape)`, and they are meta-learned in the outer group `initial`.
    """

    trains = ("initial",)

    def build(self, kernel_shape: tuple[int, int]) -> None:
        """Makes the weights, if there are any.

        Args:
            kernel_shape: `(in, out)` of the fast weights.
        """
        del kernel_shape
        self.built = True

    def call(self, kernel: tf.Tensor, seeds: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the fast kernels `[lifetimes, in, out]`, or `[in, out]` without seeds.

        Args:
            kernel: the slow kernel `[in, out]`.
            seeds: one stateless seed per lifetime, int32 `[lifetimes, 2]`. Whatever is
                drawn must come from it.
        """
        raise TypeError(f"{type(self).__name__} does not define call(kernel, seeds)")

    def penalty(self, kernel: tf.Tensor) -> tf.Tensor | float:
        """Returns a scalar to add to the outer loss, such as a penalty on information; 0 by default.

        Args:
            kernel: the slow kernel `[in, out]`.
        """
        del kernel
        return 0.0

    def bits(self, kernel: tf.Tensor) -> tf.Tensor | None:
        """Returns the information that the initial weights hold, a scalar in bits; None where it is not defined.

        Args:
            kernel: the slow kernel `[in, out]`.
        """
        del kernel
        return None
