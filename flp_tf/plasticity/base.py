"""The contract of a local plasticity rule."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from flp_tf.component import Component

RuleFunction = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


class Rule(Component):
    """In which direction local activity moves a kernel (paper, section 4).

    `call(kernel, pre, post)` returns the direction `[..., in, out]`, summed over the
    batch; the layer then makes the step `W <- W + alpha * direction` with its
    meta-learned `alpha`. A rule may have weights of its own: it makes them in
    `build(kernel_shape)`, and they are meta-learned in the outer group `rule`.

    `Options` of a rule are its constructor's arguments, and flags that start with `--rule_`.
    """

    trains = ("rule",)

    def build(self, kernel_shape: tuple[int, int]) -> None:
        """Makes the rule's weights, if it has any.

        Args:
            kernel_shape: `(in, out)` of the fast weights.
        """
        del kernel_shape
        self.built = True

    def check_plasticity(self, start: float) -> None:
        """Raises InputError if nothing can be meta-learned with a plasticity that starts at this value.

        Args:
            start: initial `a` of the layer, of which `alpha` is a multiple.
        """
        del start

    def call(self, kernel: tf.Tensor, pre: tf.Tensor, post: tf.Tensor) -> tf.Tensor:
        """Returns the direction `[..., in, out]`.

        Args:
            kernel: fast weights `[..., in, out]`.
            pre: presynaptic activity `[..., batch, in]`.
            post: post-feedback postsynaptic activity `[..., batch, out]`.
        """
        raise TypeError(f"{type(self).__name__} does not define call(kernel, pre, post)")


class FunctionRule(Rule):
    """A rule without weights, from a function.

    Args:
        function: `function(kernel, pre, post) -> direction`; see `Rule.call`.
        **kwargs: of `keras.layers.Layer`.
    """

    trains = ()

    def __init__(self, function: RuleFunction, **kwargs: Any):
        super().__init__(**kwargs)
        self.function = function

    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"function": self.function}

    def call(self, kernel: tf.Tensor, pre: tf.Tensor, post: tf.Tensor) -> tf.Tensor:
        """Returns `function(kernel, pre, post)`."""
        return self.function(kernel, pre, post)
