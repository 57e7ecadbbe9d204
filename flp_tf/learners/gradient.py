"""The gradient-based baselines: meta-learned rates per synapse, and OML."""

from collections.abc import Callable

import tensorflow as tf

from flp_tf.learners.base import Learner
from flp_tf.networks import Network
from flp_tf.networks.network import State


class GradientLearner(Learner):
    """Gradient descent on the plastic layers: `W_l -= eta_l * dLoss/dW_l`.

    `eta` is the layers' plasticity: an entry per synapse and meta-learned for the
    paper's baseline (section 5), one fixed number for OML.

    Args:
        network: trunk and plastic head, without feedback.
        inner_loss: `inner_loss(outputs, y)`, one number a lifetime.
        second_order: whether meta-gradients flow through the inner gradient too.
            The published baseline keeps the first order only.
    """

    def __init__(
        self, network: Network, inner_loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], second_order: bool = True
    ):
        super().__init__(network)
        self.inner_loss = inner_loss
        self.second_order = second_order

    def direction(self, state: State, features: tf.Tensor, y: tf.Tensor) -> State:
        gradients = inner_gradients(self, self.inner_loss, state, features, y)
        if not self.second_order:
            gradients = [tf.stop_gradient(gradient) for gradient in gradients]
        return tuple(-gradient for gradient in gradients)


def inner_gradients(
    learner: Learner,
    inner_loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    state: State,
    features: tf.Tensor,
    y: tf.Tensor,
) -> list[tf.Tensor]:
    """Returns the gradient `dLoss/dW` of one inner step's loss for every plastic layer.

    Args:
        learner: whose `predict` is differentiated.
        inner_loss: `inner_loss(outputs, y)`, one number a lifetime.
        state: fast weights `[..., in, out]`.
        features: `encode` of the inner step's examples `[..., batch, features]`.
        y: their targets `[..., batch, outputs]`.
    """
    with tf.GradientTape() as tape:
        tape.watch(state)
        # Summed over lifetimes: each then has the gradient of its own loss.
        loss = tf.reduce_sum(inner_loss(learner.predict(state, features), y))
    return list(tape.gradient(loss, state))
