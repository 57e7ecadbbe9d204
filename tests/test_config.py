"""Configuration: what is chosen, what goes with it, checks of every option, and what makes another run."""

import dataclasses
import itertools
import json
import math
import re

import numpy as np
import pytest
from every_option import COMPONENTS, OPTIONS, choosing, example, name_of

from flp_tf.component import GROUPS
from flp_tf.errors import InputError
from flp_tf.learners import METHODS
from flp_tf.registry import REGISTRIES
from flp_tf.runs import recipes
from flp_tf.runs.config import Config, configure, resolve
from flp_tf.runs.recipes import PAPER, RECIPES
from flp_tf.runs.sections import active, choose, places, prefix, slots
from flp_tf.tasks import TASKS, Sine, Task

CHOICES = [(place, given) for place, given in OPTIONS if place.field.metadata["legal"] is not None]
BOUNDED_BELOW = [(place, given) for place, given in OPTIONS if place.field.metadata["least"] > -math.inf]
FLOATS = [(place, given) for place, given in OPTIONS if place.kind is float]


@pytest.mark.parametrize("recipe", [*RECIPES, None])
@pytest.mark.parametrize("task", TASKS)
def test_values_come_from_the_task_s_recipe(task, recipe):
    """What is not said comes from the recipe, and what is said stays."""
    config = configure(task=task) if recipe is None else configure(task=task, recipe=recipe)
    for flag, value in recipes.values(recipe or "fast", TASKS[task]).items():
        assert getattr(config, flag, value) == value
    assert config.num_plastic_layers == 2
    own = {"episodes": 4, "query_size": 7, "plasticity_scale": 0.5}
    assert config.replace(**own) == configure(task=task, recipe=config.recipe, **own)
    assert [getattr(configure(task=task, **own), flag) for flag in own] == list(own.values())


def test_lifetimes_take_the_place_of_a_recipe_s_curriculum():
    assert configure().curriculum and not configure(lifetimes=(40, 400)).curriculum
    with pytest.raises(InputError, match="^--curriculum=40:2 does not go with --lifetimes=40,400"):
        configure(lifetimes=(40, 400), curriculum="40:2")


def test_the_procedure_of_the_paper():
    config = configure(recipe="paper")
    assert (config.task, config.method, config.episodes, config.lifetime) == ("sine", "flp", 20_000, 400)
    assert (config.batch_size, config.num_sines, config.network) == (32, 10, "sine_paper")
    assert (config.rule, config.granularity, config.feedback_signal, config.clamp_output) == (
        "oja",
        "per_synapse",
        "error",
        False,
    )
    rates = (config.slow_rate, config.feedback_rate, config.strength_rate)
    assert rates == (1e-4,) * 3 and config.plasticity_rate * config.plasticity_scale == pytest.approx(1e-8)
    assert {config.slow_optimizer, config.feedback_optimizer, config.plasticity_optimizer} == {"adam"}


def test_recipes_along_the_classes_of_a_task(monkeypatch):
    """A subclass takes its parents' values and changes some; others see nothing of it."""

    class Waves(Sine):
        """Sines under another name."""

    monkeypatch.setitem(TASKS._components, "waves", Waves)
    assert recipes.values("paper", Waves) == recipes.values("paper", Sine)
    assert configure(task="waves").replace(task="sine") == configure()
    changed = {**PAPER, Waves: {"lifetime": 40}, Task: {**PAPER[Task], "clip_norm": 2.0}}
    monkeypatch.setitem(RECIPES._components, "mine", changed)
    config = configure(task="waves", recipe="mine")
    assert (config.recipe, config.lifetime, config.clip_norm, config.episodes) == ("mine", 40, 2.0, 20_000)
    assert configure(task="sine", recipe="mine").lifetime == 400
    # What is given comes before the recipe.
    assert configure(task="waves", recipe="mine", lifetime=80).lifetime == 80


def test_recipe_values_that_no_component_has_are_not_used():
    assert not hasattr(configure(method="oml"), "plasticity_scale")
    assert configure(method="oml").inner_rate == 0.003 and configure(task="omniglot", method="oml").inner_rate == 0.1


def test_every_value_of_the_recipe_is_one_of_an_option():
    flags = {flag for values in PAPER.values() for flag in values}
    assert flags <= {*places(), *slots()}


@pytest.mark.parametrize("task, method", itertools.product(TASKS, METHODS))
def test_every_method_goes_with_every_task(task, method):
    """The options are those of the chosen components alone, and go through `config.json` and back."""
    config = configure(task=task, method=method)
    choices = choose(recipes.values("fast", TASKS[task]) | {"task": task, "method": method})
    options = [
        prefix(section) + field.name for section, of in active(choices).items() for field in dataclasses.fields(of)
    ]
    assert sorted(config.to_dict()) == sorted(["recipe", *choices, *options])
    assert Config.from_dict(json.loads(json.dumps({**config.to_dict(), "versions": {}}))) == config
    for slot in choices:
        assert config.options(slot) == config.choice(slot).options
        assert config.choice(slot).component is REGISTRIES[slot][choices[slot]]


@pytest.mark.parametrize("slot, name", COMPONENTS)
def test_every_component_can_be_chosen(slot, name):
    assert getattr(configure(**choosing(slot, name)), slot) == name


@pytest.mark.parametrize("place, given", OPTIONS, ids=name_of)
def test_every_option_is_taken_and_stored(place, given):
    """A legal value of every option is an attribute, and goes through `config.json` and back."""
    value = example(place)
    config = configure(**given, **{place.flag: value})
    assert getattr(config, place.flag) == value
    # Rates are options of the outer loop that components bring.
    section = place.section if hasattr(config.options(place.section), place.field.name) else "outer"
    assert getattr(config.options(section), place.field.name) == value
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def foreign() -> list[tuple]:
    """Returns flag, value, choices and what excludes it of every flag under every task, and every method, without it.

    A flag is excluded by the task or by the method, whatever the other of them is.
    """
    found = []
    for task, method in dict.fromkeys([*((task, "flp") for task in TASKS), *(("sine", method) for method in METHODS)]):
        choices = {"task": task, "method": method}
        chosen = choose(recipes.values("fast", TASKS[task]) | choices)
        has = set(configure(**choices).to_dict())
        of_method = f"--method={method}"
        for flag, (place, *_) in places().items():
            if flag not in has:
                active_slot = place.section in chosen
                excluding = f"--{place.section}={chosen[place.section]}" if active_slot else of_method
                found.append((flag, example(place), choices, excluding))
        found += [(slot, REGISTRIES[slot].default, choices, of_method) for slot in slots() if slot not in has]
    return found


FOREIGN = foreign()


@pytest.mark.parametrize("flag, value, choices, excluding", FOREIGN, ids=str)
def test_what_does_not_go_with_the_components_is_refused_naming_both(flag, value, choices, excluding):
    with pytest.raises(InputError) as error:
        configure(**choices, **{flag: value})
    assert re.match(rf"--{flag} does not go with {excluding}; it goes with --\w+=\w+", str(error.value))
    assert "\n" not in str(error.value)
    assert resolve({**choices, flag: value}, optional=[flag]) == configure(**choices)


def test_foreign_options_of_the_issue():
    cases = [
        ({"task": "omniglot", "lifetime": 77}, "--lifetime does not go with --task=omniglot"),
        ({"task": "sine", "ways": 7}, "--ways does not go with --task=sine"),
        ({"method": "gradient", "rule": "hebb"}, "--rule does not go with --method=gradient"),
        ({"method": "oml", "feedback_units": (10,)}, "--feedback_units does not go with --method=oml"),
    ]
    for given, line in cases:
        with pytest.raises(InputError, match=f"^{line}; it goes with "):
            configure(**given)
    assert len(FOREIGN) > 100


def test_unknown_names():
    with pytest.raises(InputError, match=r"^--epsodes is unknown; did you mean --episodes( or --\w+)*\?$"):
        configure(epsodes=4)
    with pytest.raises(InputError, match="^--zzz is unknown$"):
        configure(zzz=4)


@pytest.mark.parametrize("flag", [*slots(), "recipe"])
def test_unknown_components(flag):
    """Every flag that chooses a component refuses others, naming itself and all legal ones."""
    with pytest.raises(InputError) as error:
        configure(**{flag: "nonsense"})
    assert str(error.value).startswith(f"--{flag}=nonsense is unknown; legal values: ")
    for legal in REGISTRIES[flag]:
        assert legal in str(error.value)
    with pytest.raises(InputError, match=f"^--{flag}=3 is not of the right type"):
        configure(**{flag: 3})


@pytest.mark.parametrize("place, given", CHOICES, ids=name_of)
def test_unknown_choices(place, given):
    """Every option with legal values refuses others, naming itself and all legal ones."""
    with pytest.raises(InputError) as error:
        configure(**given, **{place.flag: "nonsense"})
    assert str(error.value).startswith(f"--{place.flag}=nonsense is unknown; legal values: ")
    for legal in place.field.metadata["legal"]:
        assert legal in str(error.value)


@pytest.mark.parametrize("place, given", BOUNDED_BELOW, ids=name_of)
def test_too_small_numbers(place, given):
    """Every option with a least value takes it and refuses less."""
    least = place.field.metadata["least"]
    value, too_small = least, least - 1
    if place.kind is float:
        value, too_small = float(value), float(too_small)
    wrapped = (lambda number: (number,)) if place.kind == tuple[int, ...] else (lambda number: number)
    assert getattr(configure(**given, **{place.flag: wrapped(value)}), place.flag) == wrapped(value)
    with pytest.raises(
        InputError, match=rf"^--{place.flag}={too_small:g} is too small; legal values are {least:g} or more( with .*)?$"
    ):
        configure(**given, **{place.flag: wrapped(too_small)})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place, given", FLOATS, ids=name_of)
def test_numbers_that_are_none(place, given, value):
    with pytest.raises(InputError, match=f"^--{place.flag}={value} is not a finite number$"):
        configure(**given, **{place.flag: value})


@pytest.mark.parametrize("place, given", OPTIONS, ids=name_of)
def test_wrong_types(place, given):
    """No option takes a value of another type: not "false" for a bool, not a bool for a number, never None."""
    wrong = {bool: ["false", 1, None], int: ["4", 4.5, True, None], float: ["4", True, None], str: [4, None]}
    for value in wrong.get(place.kind, [4, "4", [None], None]):
        with pytest.raises(InputError, match=f"^--{place.flag}=.* is not of the right type; legal is "):
            configure(**given, **{place.flag: value})


def test_every_number_of_things_has_a_least_value():
    """Whole numbers are counts; the only one that is checked elsewhere depends on the network."""
    counts = {place.flag for place, _ in OPTIONS if place.kind is int}
    assert counts - {place.flag for place, _ in BOUNDED_BELOW} <= {"num_plastic_layers"}


def test_values_of_other_libraries(tmp_path):
    """Numbers of NumPy, lists and paths are taken; huge integers are no finite rates."""
    config = configure(seed=np.int64(3), slow_rate=np.float32(0.5), feedback_units=[8, np.int32(9)])
    assert config == configure(seed=3, slow_rate=0.5, feedback_units=(8, 9))
    assert type(config.seed) is int and type(config.options("outer").slow_rate) is float
    assert configure(task="omniglot", data_dir=tmp_path).data_dir == str(tmp_path)
    with pytest.raises(InputError, match="^--slow_rate=inf is not a finite number$"):
        configure(slow_rate=10**400)


# Groups of weights that components have, and those that another choice brings.
RATES = {
    ("flp", "direct"): ({}, {"slow", "feedback", "plasticity", "strength"}),
    ("flp", "polynomial", "gaussian"): (
        {"rule": "polynomial", "initial": "gaussian"},
        {"slow", "feedback", "plasticity", "strength", "rule", "initial"},
    ),
    ("gradient",): ({"method": "gradient"}, {"slow", "plasticity"}),
    ("gradient", "gaussian"): ({"method": "gradient", "initial": "gaussian"}, {"slow", "plasticity", "initial"}),
    ("oml",): ({"method": "oml"}, {"slow"}),
}


@pytest.mark.parametrize(("choices", "groups"), RATES.values(), ids=map(str, RATES))
def test_rates_of_groups_without_weights_are_refused(choices, groups):
    config = configure(**choices)
    for group in GROUPS:
        for flag, value in ((f"{group}_rate", 0.5), (f"{group}_optimizer", "sgd")):
            assert hasattr(config, flag) == (group in groups)
            if group in groups:
                assert getattr(configure(**choices, **{flag: value}).options("outer"), flag) == value
            else:
                with pytest.raises(InputError, match=f"^--{flag} does not go with --.*; it goes with --"):
                    configure(**choices, **{flag: value})


def test_too_large_seed():
    assert configure(seed=2**31 - 1).seed == 2**31 - 1
    with pytest.raises(
        InputError, match=r"^--seed=2147483648 is too large; legal values are 2147483647|2.147\S+ or less$"
    ):
        configure(seed=2**31)


def test_feature_reuse_has_one_plastic_layer():
    assert configure(method="feature_reuse").num_plastic_layers == 1
    assert configure(method="feature_reuse", num_plastic_layers=1).num_plastic_layers == 1
    with pytest.raises(
        InputError, match="^--num_plastic_layers=2 .* legal values are 1 or less with --method=feature_reuse$"
    ):
        configure(method="feature_reuse", num_plastic_layers=2)


def test_phases():
    """A curriculum's parts start where the ones before end; the last is the run itself."""
    config = configure(curriculum="40:2000,100:4000", episodes=6000)
    assert [tuple(phase) for phase in config.phases()] == [(0, 40, 0), (2000, 100, 0), (6000, 0, 100)]
    assert [tuple(phase) for phase in configure(recipe="paper").phases()] == [(0, 0, 100)]


@pytest.mark.parametrize(
    "text", ["40", "40:", ":40", "40:2000:3", "a:b", "-40:10", "40:2000;100:4000", "4.5:10", "²:2", "0:100", "40:0"]
)
def test_curriculum_that_does_not_read(text):
    with pytest.raises(InputError, match=f"^--curriculum={text} cannot be read; legal is LENGTH:EPISODES"):
        configure(curriculum=text)


@pytest.mark.parametrize(
    "given, line",
    [
        (
            {"episodes": 5, "meta_batch": 4},
            "--episodes=5 is not a multiple of --meta_batch=4; legal are multiples of 4",
        ),
        ({"episodes": 5, "curriculum": "4:6"}, "--curriculum=4:6 takes 6 lifetimes, more than --episodes=5"),
        ({"episodes": 8, "meta_batch": 4, "warmup_steps": 3}, "--warmup_steps=3 is more than the 2 outer steps"),
    ],
)
def test_lengths_that_do_not_fit_the_run(given, line):
    with pytest.raises(InputError, match=f"^{line}"):
        configure(**given)
    assert configure(episodes=8, meta_batch=4, warmup_steps=2, curriculum="4:8").phases()
