"""The options, and the components that they belong to.

A configuration consists of sections, each with an options dataclass. The sections of
`ROOTS` and those that a chosen component `uses` are slots: a registry's flag chooses the
component of the slot, and the component has options. The sections of `FIXED` are the same in all
runs, except for the rates of the outer loop: there is one rate for each group of weights that a
chosen component has.
"""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flp_tf.component import GROUPS
from flp_tf.errors import InputError
from flp_tf.learners import METHODS
from flp_tf.meta.estimators import ESTIMATORS
from flp_tf.meta.optimizers import with_groups
from flp_tf.meta.options import Engine, OuterOptions
from flp_tf.meta.schedules import SCHEDULES
from flp_tf.registry import REGISTRIES, NoOptions, kind, option
from flp_tf.runs.recipes import RECIPES
from flp_tf.tasks import TASKS

# Most lifetimes of a test, because the outputs of all of them are kept.
MOST_TESTED = 100_000


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options of the run itself: its seed, and how it reports."""

    seed: int = option(0, "Seed of the initial weights and of all episodes.", least=0, most=2**31 - 1)
    init_from: str = option("", "Run directory, or network that ships, whose weights are the initial ones.", path=True)
    log_every: int = option(50, "Outer steps between two points in TensorBoard.", least=1, incidental=True)
    eval_every: int = option(1000, "Lifetimes between two evaluations on unseen data.", least=1, incidental=True)
    eval_episodes: int = option(50, "Lifetimes of the meta-test.", least=1, most=MOST_TESTED, incidental=True)
    eval_lifetime_scale: int = option(
        1, "Evaluate on lifetimes that are this many times as long.", least=1, incidental=True
    )
    checkpoint_minutes: float = option(2.0, "Minutes between two checkpoints.", least=0, incidental=True)


ROOTS = tuple(registry.flag for registry in (TASKS, METHODS, ESTIMATORS, SCHEDULES))
FIXED: Mapping[str, type] = {"outer": OuterOptions, "engine": Engine, "run": RunOptions}
TITLES = {"outer": "the outer loop", "engine": "the engine", "run": "all runs"}


class Place(NamedTuple):
    """The place of an option in the configuration.

    Attributes:
        section: flag of a registry, or a name of `FIXED`.
        component: name of the component; empty in a section of `FIXED`.
        flag: name of the option's flag, with the prefix of its registry.
        field: the option, a field of `options`.
        options: the dataclass.
    """

    section: str
    component: str
    flag: str
    field: dataclasses.Field
    options: type

    @property
    def kind(self) -> Any:
        """The type of the option's values."""
        return kind(self.options, self.field.name)

    @property
    def owner(self) -> str:
        """The owner of the option, for messages: `--task=sine`, or "the outer loop"."""
        return f"--{self.section}={self.component}" if self.component else TITLES[self.section]


def slots() -> list[str]:
    """Returns the flags of all registries that a component can be chosen from."""
    found = list(ROOTS)
    for flag in found:
        found += [used for name in REGISTRIES[flag] for used in REGISTRIES[flag].uses(name) if used not in found]
    return list(dict.fromkeys(found))


def places() -> dict[str, list[Place]]:
    """Returns every option of every component, by flag.

    Raises:
        InputError: if two options with the same flag have different types, or a choice has the name of an option.
    """
    found: dict[str, list[Place]] = {}
    choosing = {*slots(), RECIPES.flag}
    for place in _all_places():
        others = found.setdefault(place.flag, [])
        if others and others[0].kind != place.kind:
            raise InputError(
                f"--{place.flag} is an option of {others[0].owner} and of {place.owner} with different types"
            )
        if place.flag in choosing:
            raise InputError(f"--{place.flag} is an option of {place.owner}, but chooses a component already")
        others.append(place)
    return found


def _all_places() -> Iterator[Place]:
    for slot in slots():
        registry = REGISTRIES[slot]
        for name in registry:
            options = registry.options(name)
            for field in dataclasses.fields(options):
                yield Place(slot, name, registry.prefix + field.name, field, options)
            rates = with_groups(NoOptions, registry.trains(name))
            for field in dataclasses.fields(rates):
                yield Place(slot, name, field.name, field, rates)
    for section, options in FIXED.items():
        for field in dataclasses.fields(options):
            yield Place(section, "", field.name, field, options)


def displaced(values: Mapping[str, Any]) -> set[str]:
    """Returns the flags of options that a given option replaces; see `registry.option`."""
    given = (place for of_flag in places().values() for place in of_flag if values.get(place.flag))
    return {place.field.metadata["excludes"] for place in given} - {""}


def choose(values: Mapping[str, Any]) -> dict[str, str]:
    """Returns the chosen component of every used slot.

    Args:
        values: names of components by flag, and possibly other values. For a slot without a name, the registry's
            default is chosen.

    Raises:
        InputError: if there is no such component.
    """
    choices: dict[str, str] = {}
    wanted = list(ROOTS)
    for slot in wanted:
        if slot not in choices:
            choices[slot] = values.get(slot, REGISTRIES[slot].default)
            component(slot, choices[slot])
            wanted += REGISTRIES[slot].uses(choices[slot])
    return choices


def component(flag: str, name: Any) -> Any:
    """Returns a registered component; raises InputError, with the legal values, if there is none."""
    if not isinstance(name, str):
        raise InputError(f"--{flag}={name!r} is not of the right type; legal is a text")
    return REGISTRIES[flag][name]


def prefix(section: str) -> str:
    """Returns the prefix of a section's options in their flags."""
    return "" if section in FIXED else REGISTRIES[section].prefix


def active(choices: Mapping[str, str]) -> dict[str, type]:
    """Returns the options dataclass of every section.

    Args:
        choices: component by slot.
    """
    trained = {group for slot, name in choices.items() for group in REGISTRIES[slot].trains(name)}
    outer = with_groups(FIXED["outer"], tuple(group for group in GROUPS if group in trained))
    return {slot: REGISTRIES[slot].options(name) for slot, name in choices.items()} | {**FIXED, "outer": outer}


def flags_of(choices: Mapping[str, str]) -> list[str]:
    """Returns the flags of all choices, and of the options of the chosen components."""
    return [
        *choices,
        *(prefix(section) + field.name for section, of in active(choices).items() for field in dataclasses.fields(of)),
    ]


def refuse(flag: str, choices: Mapping[str, str]) -> None:
    """Raises InputError for a flag that no chosen component has, and names the choices that exclude it.

    Args:
        flag: name of the flag.
        choices: component by slot.
    """
    wanted = [(place.section, place.component) for place in places().get(flag, [])] or _users(flag)
    if not wanted:
        raise InputError(f"--{flag} is unknown{suggestion(flag, known())}")
    while not any(slot in choices for slot, _ in wanted):
        wanted = [user for slot, _ in wanted for user in _users(slot)]
    slot = next(slot for slot, _ in wanted if slot in choices)
    names = dict.fromkeys(f"--{other}={name}" for other, name in wanted if other == slot)
    raise InputError(f"--{flag} does not go with --{slot}={choices[slot]}; it goes with {', '.join(names)}")


def _users(slot: str) -> list[tuple[str, str]]:
    """Returns slot and name of all components that use a slot."""
    return [(other, name) for other in slots() for name in REGISTRIES[other] if slot in REGISTRIES[other].uses(name)]


def known() -> list[str]:
    """Returns the flags of all choices and options."""
    return [RECIPES.flag, *slots(), *places()]


def suggestion(name: str, legal: Sequence[str], dashes: str = "--") -> str:
    """Returns "; did you mean ...?" with the legal names most similar to a name, or an empty string."""
    close = difflib.get_close_matches(name, legal, n=3)
    return f"; did you mean {' or '.join(dashes + other for other in close)}?" if close else ""
