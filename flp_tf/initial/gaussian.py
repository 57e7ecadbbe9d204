"""A distribution of initial weights, and the information that it holds."""

import dataclasses
import math
from typing import Any

import keras
import tensorflow as tf

from flp_tf import seeds as lifetime_seeds
from flp_tf.component import GRANULARITIES, granular_shape
from flp_tf.initial.base import Initial
from flp_tf.registry import option


@dataclasses.dataclass(frozen=True)
class GaussianOptions:
    """Options of the Gaussian initial distribution; spreads are in units of He-normal's, `sqrt(2 / in)`."""

    granularity: str = option("per_synapse", "Spread per synapse, neuron or layer.", legal=GRANULARITIES)
    spread: float = option(0.1, "Spread sigma at first, in units of He-normal's.", least=1e-6)
    prior_spread: float = option(1.0, "Spread s of the prior, in units of He-normal's.", least=1e-6)
    penalty_weight: float = option(0.0, "Outer loss per nat of the divergence from the prior.", least=0)


class GaussianInitial(Initial):
    """`W_0 = mu + sigma * noise`, drawn anew for every lifetime (paper, section 8.3).

    `mu` is the slow kernel. `log sigma` is meta-learned, in the outer group `initial`. The
    distribution holds as much information as it diverges from a fixed prior:

        KL(N(mu, sigma^2) || N(0, s^2)) = sum of log(s / sigma) + (sigma^2 + mu^2) / (2 s^2) - 1/2 nats

    Without seeds the kernel is `mu`.

    Args:
        granularity: whether `sigma` has an entry per synapse, per (postsynaptic) neuron or per layer.
        spread: initial `sigma`, in units of `sqrt(2 / in)`.
        prior_spread: `s`, in the same units.
        penalty_weight: what a nat adds to the outer loss.
        **kwargs: of `keras.layers.Layer`.
    """

    Options = GaussianOptions

    def __init__(
        self,
        granularity: str = GaussianOptions.granularity,
        spread: float = GaussianOptions.spread,
        prior_spread: float = GaussianOptions.prior_spread,
        penalty_weight: float = GaussianOptions.penalty_weight,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.granularity, self.initial_spread = granularity, spread
        self.prior_spread, self.penalty_weight = prior_spread, penalty_weight

    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("granularity", "prior_spread", "penalty_weight")
        return {"spread": self.initial_spread, **{name: getattr(self, name) for name in names}}

    def build(self, kernel_shape: tuple[int, int]) -> None:
        """Makes `log_spread`; see `Initial.build`."""
        he_normal = math.sqrt(2 / kernel_shape[0])
        self.prior = self.prior_spread * he_normal
        self.log_spread = self.add_weight(
            name="log_spread",
            shape=granular_shape(self.granularity, kernel_shape),
            initializer=keras.initializers.Constant(math.log(self.initial_spread * he_normal)),
        )
        self.built = True

    def call(self, kernel: tf.Tensor, seeds: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the fast kernels; see `Initial.call`."""
        if seeds is None:
            return kernel
        noise = lifetime_seeds.normal(seeds, kernel.shape, kernel.dtype)
        return kernel + tf.exp(self.log_spread.value) * noise

    def divergence(self, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the divergence from the prior in nats, a scalar, for the slow kernel `[in, out]`."""
        log_ratio = self.log_spread.value - math.log(self.prior)
        per_synapse = (tf.exp(2 * log_ratio) + tf.square(kernel / self.prior) - 1) / 2 - log_ratio
        return tf.reduce_sum(per_synapse)

    def bits(self, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the divergence from the prior in bits; see `Initial.bits`."""
        return self.divergence(kernel) / math.log(2)

    def penalty(self, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the divergence times its weight; see `Initial.penalty`."""
        return self.penalty_weight * self.divergence(kernel)
