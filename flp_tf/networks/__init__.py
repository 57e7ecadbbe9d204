"""Networks: a trunk that does not change in a lifetime, below a plastic head."""

from flp_tf.networks.architectures import ARCHITECTURES, Conv, Dense, Own, build, parse
from flp_tf.networks.network import Network, State

__all__ = ["ARCHITECTURES", "Conv", "Dense", "Network", "Own", "State", "build", "parse"]
