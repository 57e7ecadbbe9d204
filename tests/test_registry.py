"""Registries: own components under a name with options of their own, and errors that say what is legal."""

import dataclasses

import pytest
import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.feedback import FEEDBACK, DirectOptions, PathwayOptions
from flp_tf.initial import INITIALS
from flp_tf.layers import PlasticDense
from flp_tf.learners import METHODS
from flp_tf.meta.estimators import ESTIMATORS
from flp_tf.networks import ARCHITECTURES
from flp_tf.plasticity import RULES, FunctionRule, Rule, oja
from flp_tf.registry import REGISTRIES, Choice, NoOptions, Registry, check, describe, kind, option
from flp_tf.tasks import TASKS

COMPONENTS = [RULES, FEEDBACK, INITIALS, METHODS, TASKS, ESTIMATORS]


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of every type."""

    rate: float = option(0.5, "A rate.", least=0, most=1)
    steps: int = option(3, "Steps.", least=1)
    clamp: bool = option(False, "Whether to clamp.")
    signal: str = option("error", "The signal.", legal=("error", "target"))
    units: tuple[int, ...] = option((), "Units.", least=1)
    names: tuple[str, ...] = option(("a",), "Names.", legal=("a", "b"))
    folder: str = option("", "Where data are.", incidental=True)


@pytest.fixture
def colours(monkeypatch):
    """A registry of the test's own."""
    monkeypatch.setattr("flp_tf.registry.REGISTRIES", {})
    return Registry("colour", default="red", text="The colour.", prefix="colour_")


@pytest.mark.parametrize("registry", [*COMPONENTS, ARCHITECTURES], ids=lambda registry: registry.flag)
def test_unknown_names(registry):
    """The error names the flag, what was said and every legal value."""
    with pytest.raises(InputError) as error:
        registry["nonsense"]
    assert str(error.value).startswith(f"--{registry.flag}=nonsense is unknown; legal values: ")
    for name in registry:
        assert name in str(error.value)
    assert "nonsense" not in registry


def test_everything_promised_is_registered():
    assert {"oja", "hebb"} <= set(RULES)
    assert {"flp", "feature_reuse", "gradient", "oml", "dfa"} <= set(METHODS)
    assert {"sine", "omniglot", "mini_imagenet"} <= set(TASKS)
    assert "direct" in FEEDBACK and "fixed" in INITIALS and "backprop" in ESTIMATORS


def test_registries_are_found_by_flag():
    assert {registry.flag: registry for registry in COMPONENTS}.items() <= REGISTRIES.items()


@pytest.mark.parametrize("registry", COMPONENTS, ids=lambda registry: registry.flag)
def test_options_of_every_component_are_legal(registry):
    """Default values pass their own check; what a component uses are registries."""
    assert registry.default in registry and registry.text
    for name in registry:
        options = registry.options(name)
        check(options(), registry.prefix)
        assert all(field.metadata["help"].endswith(".") for field in dataclasses.fields(options))
        assert set(registry.uses(name)) <= set(REGISTRIES)


def test_own_components(colours):
    @colours.register("green")
    def green():
        return 2

    colours.register("red")(1)
    assert colours["green"] is green and green() == 2
    assert list(colours) == ["green", "red"] and len(colours) == 2
    assert colours.options("green") is NoOptions and colours.uses("green") == ()


def test_a_name_is_taken_once(colours):
    colours.register("red")(1)
    with pytest.raises(InputError, match="--colour=red is registered already"):
        colours.register("red")(2)
    assert colours["red"] == 1


def test_options_are_arguments_and_are_inherited(colours):
    @colours.register("base")
    class Base:
        Options = Options
        uses = ("rule",)

        def __init__(self, context, rate, **others):
            self.context, self.rate, self.others = context, rate, others

    @colours.register("child")
    class Child(Base):
        @dataclasses.dataclass(frozen=True)
        class Options(Options):
            depth: int = option(1, "Depth.")

    assert colours.options("base") is Options
    assert {field.name for field in dataclasses.fields(colours.options("child"))} >= {"rate", "depth"}
    assert colours.uses("child") == ("rule",)
    made = Choice(colours["child"], colours.options("child")(rate=0.25, depth=4))(context="here")
    assert isinstance(made, Child) and (made.context, made.rate) == ("here", 0.25)
    assert made.others["depth"] == 4 and made.others["units"] == ()
    assert Choice(lambda context: context)(context=1) == 1


def test_options_of_a_registry_are_those_of_components_without(monkeypatch):
    monkeypatch.setattr("flp_tf.registry.REGISTRIES", {})
    registry = Registry("shape", options=Options)
    registry.register("round")(lambda **fields: fields)
    assert registry.options("round") is Options
    assert FEEDBACK.options("direct") is DirectOptions and issubclass(DirectOptions, PathwayOptions)


WRONG = [
    ({"rate": "0.5"}, "--x_rate='0.5' is not of the right type; legal is a number"),
    ({"rate": True}, "--x_rate=True is not of the right type; legal is a number"),
    ({"rate": None}, "--x_rate=None is not of the right type; legal is a number"),
    ({"rate": -0.1}, "--x_rate=-0.1 is too small; legal values are 0 or more"),
    ({"rate": 1.5}, "--x_rate=1.5 is too large; legal values are 1 or less"),
    ({"rate": float("nan")}, "--x_rate=nan is not a finite number"),
    ({"rate": float("inf")}, "--x_rate=inf is not a finite number"),
    ({"steps": 2.0}, "--x_steps=2.0 is not of the right type; legal is an integer"),
    ({"steps": True}, "--x_steps=True is not of the right type; legal is an integer"),
    ({"steps": 0}, "--x_steps=0 is too small; legal values are 1 or more"),
    ({"clamp": "false"}, "--x_clamp='false' is not of the right type; legal is true or false"),
    ({"clamp": 0}, "--x_clamp=0 is not of the right type; legal is true or false"),
    ({"signal": "errror"}, "--x_signal=errror is unknown; legal values: error, target"),
    ({"signal": 1}, "--x_signal=1 is not of the right type; legal is a text"),
    ({"units": 3}, "--x_units=3 is not of the right type; legal is integers joined by commas"),
    ({"units": [3]}, "--x_units=[3] is not of the right type; legal is integers joined by commas"),
    ({"units": (3, "4")}, "--x_units=(3, '4') is not of the right type; legal is integers joined by commas"),
    ({"units": (3, 0)}, "--x_units=0 is too small; legal values are 1 or more"),
    ({"names": ("a", "c")}, "--x_names=c is unknown; legal values: a, b"),
    ({"names": "a"}, "--x_names='a' is not of the right type; legal is texts joined by commas"),
]


@pytest.mark.parametrize(("values", "message"), WRONG, ids=[message.split(" ")[0] for _, message in WRONG])
def test_check(values, message):
    """The flag with its prefix, the value, and what is legal."""
    with pytest.raises(InputError) as error:
        check(Options(**values), "x_")
    assert str(error.value) == message


def test_check_of_legal_values():
    check(Options())
    check(Options(rate=1, steps=7, clamp=True, signal="target", units=(4, 5), names=(), folder="~/x"), "x_")


def test_types_of_options():
    assert kind(Options, "units") == tuple[int, ...] and kind(Options, "rate") is float
    assert describe(bool) == "true or false" and describe(tuple[float, ...]) == "numbers joined by commas"


def test_methods_say_what_they_use():
    assert (
        METHODS.uses("flp") == METHODS.uses("dfa") == METHODS.uses("feature_reuse") == ("rule", "feedback", "initial")
    )
    assert METHODS.uses("gradient") == METHODS.uses("oml") == ("initial",)
    assert (RULES.prefix, FEEDBACK.prefix, INITIALS.prefix, METHODS.prefix) == ("rule_", "feedback_", "initial_", "")


def test_own_rule_in_a_layer(monkeypatch):
    """A registered rule under its name, a function itself, a class and an instance make the same layer."""

    def forget(kernel, pre, post):
        return -kernel

    class Forget(Rule):
        def call(self, kernel, pre, post):
            return forget(kernel, pre, post)

    monkeypatch.setattr(RULES, "_components", dict(RULES._components))
    RULES.register("forget")(forget)
    RULES.register("forget_class")(Forget)
    assert isinstance(RULES["forget"](), FunctionRule) and RULES["forget_class"] is Forget
    for rule in ("forget", "forget_class", forget, Forget(), lambda kernel, pre, post: -kernel):
        layer = PlasticDense(3, rule=rule, plasticity_init=0.25)
        layer.build((None, 4))
        state = layer.get_initial_state()
        new = layer.update(state, tf.zeros((5, 4)), tf.zeros((5, 3)))
        tf.debugging.assert_near(new["kernel"], 0.75 * state["kernel"])


def test_a_registered_function_stays_a_function():
    """`register` returns what it is given, so that a rule can be called by itself."""
    assert callable(oja) and RULES["oja"]().function is oja


def test_a_definition_that_is_repeated_takes_its_own_place(colours):
    """As when a cell of a notebook runs again."""

    def define(shade):
        @colours.register("blue")
        def blue():
            return shade

    define(1)
    define(2)
    assert colours["blue"]() == 2
