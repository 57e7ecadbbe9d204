"""Feedback pathways (paper, section 4): from the output to a plastic layer.

A pathway is a `Pathway` layer whose `pathway(signal, above, state)` maps the feedback
signal `f [..., batch, signal]`, and if it wants the activities of the plastic layers above,
to a feedback activity `z` of the shape of the layer's own activity. A new one is a new
file here and a line below.
"""

from flp_tf.feedback.base import Pathway, PathwayOptions
from flp_tf.feedback.cascade import CascadeFeedback
from flp_tf.feedback.direct import DirectFeedback, DirectOptions
from flp_tf.feedback.plastic import PlasticFeedback
from flp_tf.registry import Registry

FEEDBACK = Registry("feedback", default="direct", text="Feedback pathway.", prefix="feedback_", options=PathwayOptions)
FEEDBACK.register("direct")(DirectFeedback)
FEEDBACK.register("plastic")(PlasticFeedback)
FEEDBACK.register("cascade")(CascadeFeedback)

__all__ = [
    "FEEDBACK",
    "CascadeFeedback",
    "DirectFeedback",
    "DirectOptions",
    "Pathway",
    "PathwayOptions",
    "PlasticFeedback",
]
