"""Learners: how a network changes on one inner step, one module a method.

Methods share networks, tasks, lifetimes and the outer loop, and differ in
`direction` alone; `METHODS` maps the name of one to the learner of a configuration.
"""

from flp_tf.learners.base import Learner
from flp_tf.learners.gradient import GradientLearner
from flp_tf.learners.local import FeedbackLearner
from flp_tf.learners.methods import METHODS, build

__all__ = ["METHODS", "FeedbackLearner", "GradientLearner", "Learner", "build"]
