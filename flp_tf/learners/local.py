"""FLP: feedback connections and local plasticity (paper, section 3)."""

import tensorflow as tf

from flp_tf.learners.base import Learner
from flp_tf.networks import Network
from flp_tf.networks.network import State

SIGNALS = ("error", "target")
PRESYNAPTIC = ("pre_feedback", "post_feedback")


class FeedbackLearner(Learner):
    """One inner step of FLP, of which `feature_reuse` and `dfa` are settings.

    Forward: `h_l = act(h_{l-1} W_l + b_l)`. Feedback: `p_l = (1 - beta_l) h_l +
    beta_l z_l` with `z_l` from the signal. Update: `W_l += alpha_l * rule(W_l,
    h_{l-1}, p_l)`.

    Args:
        network: trunk and plastic head.
        signal: what is fed back: `"error"`, `y - yhat` (the paper's for
            regression), or `"target"`, `y` (for classification).
        clamp_output: whether the output's post-feedback activity is the target
            itself (classification).
        presynaptic: whether updates see the presynaptic activity before feedback,
            `h_{l-1}` (the paper), or after it, `p_{l-1}`.

    Raises:
        ValueError: if `signal` or `presynaptic` is unknown.
    """

    def __init__(
        self,
        network: Network,
        signal: str = "error",
        clamp_output: bool = False,
        presynaptic: str = "pre_feedback",
    ):
        super().__init__(network)
        if signal not in SIGNALS:
            raise ValueError(f"--feedback_signal={signal} is unknown; legal values: {', '.join(SIGNALS)}")
        if presynaptic not in PRESYNAPTIC:
            raise ValueError(f"--presynaptic={presynaptic} is unknown; legal values: {', '.join(PRESYNAPTIC)}")
        self.signal = signal
        self.clamp_output = clamp_output
        self.presynaptic = presynaptic

    def direction(self, state: State, features: tf.Tensor, y: tf.Tensor) -> State:
        layers = self.network.head
        pre = self.network.activities(state, features)
        signal = y - pre[-1] if self.signal == "error" else y
        post = [layer.mix_feedback(h, signal) for layer, h in zip(layers, pre[1:])]
        if self.clamp_output:
            post[-1] = y
        if self.presynaptic == "post_feedback":
            pre = [pre[0], *post]
        return tuple(layer.direction(fast, h, p) for layer, fast, h, p in zip(layers, state, pre, post))
