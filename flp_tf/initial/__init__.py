"""Initial distributions of the fast weights: one module per distribution."""

from flp_tf.initial.base import Initial
from flp_tf.initial.fixed import FixedInitial
from flp_tf.initial.gaussian import GaussianInitial
from flp_tf.initial.redrawn import RedrawnInitial
from flp_tf.registry import Registry

INITIALS = Registry("initial", default="fixed", text="Where the fast weights of a lifetime start.", prefix="initial_")
INITIALS.register("fixed")(FixedInitial)
INITIALS.register("gaussian")(GaussianInitial)
INITIALS.register("redrawn")(RedrawnInitial)

__all__ = ["INITIALS", "FixedInitial", "GaussianInitial", "Initial", "RedrawnInitial"]
