"""Learners: how a network changes on one inner step, one module a method.

`METHODS` maps the name of a method to the class that configures it. They share
networks, tasks, lifetimes and the outer loop, and differ in `learn` alone.
"""

from flp_tf.learners.base import Learner
from flp_tf.learners.gradient import GradientLearner
from flp_tf.learners.local import FeedbackLearner

__all__ = ["FeedbackLearner", "GradientLearner", "Learner"]
