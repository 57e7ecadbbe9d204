"""Learners: how a network changes on one inner step, one module per method (paper, sections 4 and 6)."""

from typing import Any

from flp_tf.component import seeded
from flp_tf.learners.base import Learner, LearnerOptions
from flp_tf.learners.flp import DirectFeedbackAlignment, FeatureReuse, FeedbackLearner
from flp_tf.learners.gradient import GradientLearner, OnlineMetaLearning
from flp_tf.learners.recurrent import RecurrentLearner
from flp_tf.registry import Registry

METHODS = Registry("method", default="flp", text="How the network changes on an inner step.")
METHODS.register("flp")(FeedbackLearner)
METHODS.register("feature_reuse")(FeatureReuse)
METHODS.register("dfa")(DirectFeedbackAlignment)
METHODS.register("recurrent")(RecurrentLearner)
METHODS.register("gradient")(GradientLearner)
METHODS.register("oml")(OnlineMetaLearning)


def build(config: Any, task: Any, dtype: str = "float32") -> Learner:
    """Returns the learner that a `Config` describes, with fresh weights.

    Args:
        config: the run's `Config`; its seed decides the weights.
        task: its `Task`.
        dtype: of weights and activities.

    Raises:
        InputError: naming the flag that does not fit the network.
    """
    method = METHODS[config.method]
    parts = {flag: config.choice(flag) for flag in METHODS.uses(config.method)}
    with seeded(config.seed):
        return method.from_options(task, config.options("method"), parts, dtype)


__all__ = [
    "METHODS",
    "DirectFeedbackAlignment",
    "FeatureReuse",
    "FeedbackLearner",
    "GradientLearner",
    "Learner",
    "LearnerOptions",
    "OnlineMetaLearning",
    "RecurrentLearner",
    "build",
]
