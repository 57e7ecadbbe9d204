"""Networks: a frozen trunk below a plastic head, described by a line of text."""

from flp_tf.networks.architectures import ARCHITECTURES, Conv, Dense, parse
from flp_tf.networks.network import Network

__all__ = ["ARCHITECTURES", "Conv", "Dense", "Network", "parse"]
