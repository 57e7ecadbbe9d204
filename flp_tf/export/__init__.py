"""Export: meta-learned networks that go on learning without this library."""

from flp_tf.export import litert
from flp_tf.export.functions import Functions
from flp_tf.export.online import OnlineLearner
from flp_tf.export.saved_model import export

FORMATS = ("saved_model", "litert")

__all__ = ["FORMATS", "Functions", "OnlineLearner", "export", "litert"]
