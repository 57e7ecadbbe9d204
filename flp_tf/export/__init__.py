"""Export: meta-learned networks that go on learning without this library."""

from flp_tf.export.online import OnlineLearner
from flp_tf.export.saved_model import export

__all__ = ["OnlineLearner", "export"]
