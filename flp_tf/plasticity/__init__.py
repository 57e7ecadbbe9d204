"""Local plasticity rules (paper, section 4): one module per rule.

A rule is a function `rule(kernel, pre, post) -> direction`, or a `Rule` layer where it
has weights of its own. A new rule is a new file here and a line below, or
`RULES.register("name")(rule)` from outside.
"""

import functools
import types
from typing import Any

from flp_tf.component import make_serializable
from flp_tf.plasticity.base import FunctionRule, Rule
from flp_tf.plasticity.hebb import hebb
from flp_tf.plasticity.oja import oja
from flp_tf.plasticity.polynomial import PolynomialRule
from flp_tf.registry import Registry


def _as_component(rule: Any) -> Any:
    """Returns a `Rule` class as it is, and a maker of `FunctionRule` for a function."""
    if isinstance(rule, type):
        return rule
    if isinstance(rule, types.FunctionType) and rule.__name__ != "<lambda>":
        make_serializable(rule)
    return functools.partial(FunctionRule, rule)


RULES = Registry("rule", default="oja", text="Local plasticity rule.", prefix="rule_", adapt=_as_component)
RULES.register("oja")(oja)
RULES.register("hebb")(hebb)
RULES.register("polynomial")(PolynomialRule)

__all__ = ["RULES", "FunctionRule", "PolynomialRule", "Rule", "hebb", "oja"]
