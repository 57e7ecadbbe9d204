"""Feedback pathways (paper, section 3): from the output to a plastic layer.

A pathway is a `Feedback` layer whose `pathway(signal)` maps the feedback signal
`f [..., batch, signal]` to a feedback activity `z` of the shape of the layer's own
activity. A new one is a new file here and a line in `FEEDBACK`.
"""

from flp_tf.feedback.base import Feedback
from flp_tf.feedback.direct import DirectFeedback
from flp_tf.registry import Registry

FEEDBACK = Registry("feedback", direct=DirectFeedback)

__all__ = ["FEEDBACK", "DirectFeedback", "Feedback"]
