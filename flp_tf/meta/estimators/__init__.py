"""Estimators of the meta-gradient, one module each."""

from flp_tf.meta.estimators.backprop import Backprop
from flp_tf.meta.estimators.base import Estimate, Estimator
from flp_tf.meta.estimators.es import EvolutionStrategies
from flp_tf.meta.estimators.pes import PersistentEvolutionStrategies
from flp_tf.registry import Registry

ESTIMATORS = Registry("estimator", default="backprop", text="How the meta-gradient is estimated.")
ESTIMATORS.register("backprop")(Backprop)
ESTIMATORS.register("es")(EvolutionStrategies)
ESTIMATORS.register("pes")(PersistentEvolutionStrategies)

__all__ = [
    "ESTIMATORS",
    "Backprop",
    "Estimate",
    "Estimator",
    "EvolutionStrategies",
    "PersistentEvolutionStrategies",
]
