"""Registries: own components under a name, and errors that say what is legal."""

import pytest
import tensorflow as tf

from flp_tf.feedback import FEEDBACK
from flp_tf.layers import PlasticDense
from flp_tf.learners import METHODS
from flp_tf.plasticity import RULES
from flp_tf.registry import Registry
from flp_tf.tasks import TASKS


@pytest.mark.parametrize("registry", [RULES, FEEDBACK, METHODS, TASKS], ids=lambda registry: registry.flag)
def test_unknown_names(registry):
    """The error names the flag, what was said and every legal value."""
    with pytest.raises(ValueError) as error:
        registry["nonsense"]
    assert str(error.value).startswith(f"--{registry.flag}=nonsense is unknown; legal values: ")
    for name in registry:
        assert name in str(error.value)
    assert "nonsense" not in registry


def test_everything_promised_is_registered():
    assert {"oja", "hebb"} <= set(RULES)
    assert {"flp", "feature_reuse", "gradient", "oml", "dfa"} <= set(METHODS)
    assert {"sine", "omniglot", "mini_imagenet"} <= set(TASKS)
    assert "direct" in FEEDBACK


def test_own_components():
    registry = Registry("colour", red=1)

    @registry.register("green")
    def green():
        return 2

    assert registry["green"] is green and green() == 2
    assert list(registry) == ["red", "green"]


def test_a_name_is_taken_once():
    registry = Registry("colour", red=1)
    with pytest.raises(ValueError, match="--colour=red is registered already"):
        registry.register("red")(2)
    assert registry["red"] == 1


def test_own_rule_in_a_layer(monkeypatch):
    """A registered rule under its name, and a function itself, make the same layer."""

    def forget(kernel, pre, post):
        return -kernel

    monkeypatch.setitem(RULES, "forget", forget)
    for rule in ("forget", forget):
        layer = PlasticDense(3, rule=rule, plasticity_init=0.25)
        layer.build((None, 4))
        state = layer.get_initial_state()
        new = layer.update(state, tf.zeros((5, 4)), tf.zeros((5, 3)))
        tf.debugging.assert_near(new, 0.75 * state)
