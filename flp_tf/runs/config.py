"""The configuration of a run: the chosen components, and only their options."""

import dataclasses
import functools
import math
import os
import sys
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from flp_tf.errors import InputError
from flp_tf.meta.options import OuterOptions, Phase, phases
from flp_tf.registry import REGISTRIES, Choice, check, kind, text
from flp_tf.runs import legacy, recipes
from flp_tf.runs.recipes import RECIPES
from flp_tf.runs.sections import (
    active,
    choose,
    component,
    displaced,
    flags_of,
    known,
    places,
    prefix,
    refuse,
    suggestion,
)
from flp_tf.tasks import Signature, Task


def configure(**given: Any) -> "Config":
    """Returns the configuration of a run.

    If a value is not given, it is that of the recipe for the task, or else the default of the
    component.

    Example:
        >>> config = configure(task="sine", method="flp", num_plastic_layers=3, lifetime=40)

    Args:
        **given: names of components (`task`, `method`, `rule`, ...), the `recipe`, and values of options, by flag.

    Raises:
        InputError: for an unknown name, a value that is not legal, or an option that does
            not apply to the chosen components. The message is one line and names the flag.
    """
    return resolve(given)


def resolve(values: Mapping[str, Any], optional: Iterable[str] = ()) -> "Config":
    """Returns a configuration; see `configure`.

    Args:
        values: the given values, by flag.
        optional: flags that are ignored instead of refused if no chosen component has them.

    Raises:
        InputError: see `configure`.
    """
    recipe = values.get(RECIPES.flag, RECIPES.default)
    task = component("task", values.get("task", REGISTRIES["task"].default))
    component(RECIPES.flag, recipe)
    of_recipe = recipes.values(recipe, task)
    for flag in displaced(values):
        of_recipe.pop(flag, None)
    merged = {**of_recipe, **values}
    choices = choose(merged)
    flags = [RECIPES.flag, *flags_of(choices)]
    if taken := [flag for flag in flags if flags.count(flag) > 1 or hasattr(Config, flag)]:
        raise InputError(f"--{taken[0]} is not free; an option of the chosen components needs another name")
    for flag in sorted(values.keys() - {*flags, *optional}):
        refuse(flag, choices)
    sections = {}
    for section, options in active(choices).items():
        fields = {}
        for field in dataclasses.fields(options):
            value = merged.get(prefix(section) + field.name, field.default)
            fields[field.name] = _plain(value, kind(options, field.name))
        sections[section] = options(**fields)
        _check(section, sections[section], choices)
    _check_length(sections["outer"])
    given = frozenset(values.keys() & set(flags))
    return Config(((RECIPES.flag, recipe), *choices.items()), tuple(sections.items()), given)


def _check(section: str, options: Any, choices: Mapping[str, str]) -> None:
    """Checks the options of a section; if other components of the slot have other bounds, the error names this one."""
    try:
        check(options, prefix(section))
    except InputError as error:
        flag = str(error)[2:].partition("=")[0]
        bounds = {
            tuple(str(place.field.metadata[name]) for name in ("legal", "least", "most"))
            for place in places()[flag]
            if place.section == section
        }
        owner = f" with --{section}={choices[section]}" if len(bounds) > 1 else ""
        raise InputError(f"{error}{owner}") from None


def _check_length(outer: OuterOptions) -> None:
    """Raises InputError unless curriculum, warm-up and meta-batches fit the episodes."""
    start = phases(outer)[-1].start
    if start > outer.episodes:
        raise InputError(
            f"--curriculum={outer.curriculum} takes {start} lifetimes, more than --episodes={outer.episodes}; "
            f"legal are {outer.episodes} or fewer"
        )
    if outer.episodes % outer.meta_batch:
        raise InputError(
            f"--episodes={outer.episodes} is not a multiple of --meta_batch={outer.meta_batch}; "
            f"legal are multiples of {outer.meta_batch}"
        )
    if outer.warmup_steps > (steps := outer.episodes // outer.meta_batch):
        raise InputError(
            f"--warmup_steps={outer.warmup_steps} is more than the {steps} outer steps of --episodes={outer.episodes}; "
            f"legal values are {steps} or less"
        )


def _plain(value: Any, wanted: Any) -> Any:
    """Returns a value in the form in which it is compared and stored."""
    if isinstance(value, np.generic):
        value = value.item()
    if typing.get_origin(wanted) is tuple and isinstance(value, (list, tuple)):
        return tuple(_plain(entry, typing.get_args(wanted)[0]) for entry in value)
    if wanted is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < sys.float_info.max else math.inf
    return value


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a run depends on; made by `configure` or `from_dict`.

    Every option of the chosen components is an attribute with the name of its flag:
    `config.lifetime`, `config.feedback_strength`. Every chosen component is an attribute, too, as a
    name: `config.task == "sine"`. Options of components that are not chosen do not exist.
    """

    _names: tuple[tuple[str, str], ...]
    _sections: tuple[tuple[str, Any], ...]
    _given: frozenset[str] = dataclasses.field(compare=False)

    def __getattr__(self, name: str) -> Any:
        """Returns the value of an option, or the name of a component, by flag."""
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._values:
            chosen = " ".join(f"--{flag}={component}" for flag, component in self._names)
            raise AttributeError(f"a configuration with {chosen} has no {name}")
        return self._values[name]

    @functools.cached_property
    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = dict(self._names)
        for section, options in self._sections:
            values |= {prefix(section) + name: value for name, value in vars(options).items()}
        return values

    def options(self, section: str) -> Any:
        """Returns the options of a slot's component, or of "outer", "engine" or "run".

        Raises:
            KeyError: if no chosen component uses the slot.
        """
        return dict(self._sections)[section]

    def choice(self, flag: str) -> Choice:
        """Returns a slot's component with its options, ready to be called.

        Raises:
            KeyError: if no chosen component uses the slot.
        """
        return Choice(REGISTRIES[flag][dict(self._names)[flag]], self.options(flag))

    def make_task(self) -> Task:
        """Returns the task.

        Raises:
            InputError: if options contradict each other, or data are missing.
            ContractError: if the task lacks an attribute of the contract.
        """
        task = self.choice("task")()
        task.check()
        return task

    def task_signature(self) -> Signature | Task:
        """Returns what a learner needs to know of its task; no data are read if the task can do without them.

        Raises:
            InputError: see `make_task`.
        """
        task, options = self.choice("task")
        return Choice(task.signature, options)() if hasattr(task, "signature") else self.make_task()

    def phases(self) -> list[Phase]:
        """Returns the parts of the curriculum; see `flp_tf.meta.options.phases`."""
        return phases(self.options("outer"))

    def replace(self, **changes: Any) -> "Config":
        """Returns a configuration with other values.

        Values that were given to `configure` (for a `config.json`, all values) stay, except options of
        components that are no longer chosen. All others follow from the recipe and the
        defaults of the new components.

        Raises:
            InputError: see `configure`.
        """
        kept = {flag: value for flag, value in self._values.items() if flag in self._given}
        return resolve(kept | changes, kept.keys() - changes.keys())

    def differences(self, other: "Config", exactly: bool = False) -> list[str]:
        """Returns `--flag=mine (the run has theirs)` for every difference that makes it another run.

        The recipe is not compared, because its values are compared one by one. For
        different components, their names and the options that both have are compared.

        Args:
            other: configuration of the other run.
            exactly: whether an extensible option counts as a difference if it is larger than the other's.
        """
        mine, theirs = self._values, other._values
        free = {RECIPES.flag, *self.flags_with("incidental")}
        grown = [] if exactly else self.flags_with("extensible")
        free |= {flag for flag in grown if flag in theirs and mine[flag] > theirs[flag]}
        flags = [flag for flag in mine if flag in theirs and flag not in free]
        return [
            f"--{flag}={text(mine[flag])} (the run has {text(theirs[flag])})"
            for flag in flags
            if mine[flag] != theirs[flag]
        ]

    def flags_with(self, property: str) -> list[str]:
        """Returns the flags of the options that are "incidental", "extensible" or a "path"; see `registry.option`."""
        return [
            prefix(section) + field.name
            for section, options in self._sections
            for field in dataclasses.fields(options)
            if field.metadata[property]
        ]

    def to_dict(self) -> dict[str, Any]:
        """Returns choices and options by flag, in the form that `config.json` has."""
        return {flag: list(value) if isinstance(value, tuple) else value for flag, value in self._values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """Returns the configuration of a `config.json`.

        Files of flp_tf 0.1, which have the options of all components, are converted. Rates of
        weights that no component has are left out; they had no effect.

        Raises:
            InputError: if a field is unknown or of the wrong type, task or method is
                missing, or the file is of a newer flp_tf. Other missing fields have the values
                of `configure`.
        """
        values = legacy.converted(values)
        try:
            values = legacy.without_idle_rates(values)
        except InputError as error:
            raise InputError(f"{error}; a component of your own needs its file in --plugins") from None
        if unknown := sorted(values.keys() - set(known())):
            raise InputError(f"{unknown[0]} is an unknown field{suggestion(unknown[0], known(), dashes='')}")
        if missing := [flag for flag in ("task", "method") if flag not in values]:
            raise InputError(f"the field {missing[0]} is missing")
        return configure(**values)
