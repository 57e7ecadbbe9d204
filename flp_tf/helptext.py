"""The text of `--help`: all flags, grouped by the components that have them."""

import dataclasses
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from flp_tf.analysis import ANALYSES
from flp_tf.commandline import COMMAND, DEFAULTS
from flp_tf.registry import REGISTRIES, describe, text
from flp_tf.runs import recipes
from flp_tf.runs.recipes import RECIPES
from flp_tf.runs.sections import FIXED, Place, places, slots

WIDTH = 100
TITLES = {"outer": "Outer loop", "engine": "Engine", "run": "Run"}
# Entries of a help text: flag, whether it is a bool, and what is said of it.
Entry = tuple[str, bool, str]


def help_text(introduction: str, modes: Iterable[str]) -> str:
    """Returns what `--help` prints.

    Args:
        introduction: what the program does, with examples.
        modes: legal values of `--mode`.
    """
    legal = {"mode": modes, "analysis": ANALYSES}
    command = [
        (flag, False, _sentences(said, _one_of(legal.get(flag)), _default(text(DEFAULTS.get(flag, "")))))
        for flag, said in COMMAND.items()
    ]
    groups = {"Command": command, "Components": [_choice(flag) for flag in (*slots(), RECIPES.flag)]}
    for section in (*slots(), *FIXED):
        groups |= _groups(section)
    groups |= _analysis_groups()
    return "\n\n".join([introduction.strip(), *(_format(title, entries) for title, entries in groups.items())])


def _choice(flag: str) -> Entry:
    """Returns what is said of a flag that chooses a component."""
    registry = REGISTRIES[flag]
    needed = []
    for slot in slots():
        users = [name for name in REGISTRIES[slot] if flag in REGISTRIES[slot].uses(name)]
        if len(users) < len(REGISTRIES[slot]):
            needed += [f"--{slot}={name}" for name in users]
    goes_with = f"Goes with {', '.join(needed)}." if needed else ""
    of_tasks = {task: _in_recipe(flag, task, registry.default) for task in REGISTRIES["task"]}
    return flag, False, _sentences(registry.text, _one_of(registry), goes_with, _default(_by_value(of_tasks)))


def _groups(section: str) -> dict[str, list[Entry]]:
    """Returns the options of a section by title; those that several components share are listed once."""
    found: dict[str, list[Entry]] = {}
    for of_flag in places().values():
        alike: dict[Any, list[Place]] = {}
        for place in of_flag:
            if place.section == section:
                said = {name: place.field.metadata[name] for name in ("help", "least", "most")}
                alike.setdefault((*said.values(), str(_one_of(place.field.metadata["legal"]))), []).append(place)
        for same in alike.values():
            title = TITLES.get(section) or f"{section.capitalize()}: {', '.join(place.component for place in same)}"
            found.setdefault(title, []).append(_option(same))
    return found


def _option(same: list[Place]) -> Entry:
    place = same[0]
    metadata = place.field.metadata
    names = REGISTRIES.get(place.flag)
    said = _sentences(
        metadata["help"],
        f"Names: {', '.join(names)}." if names else "",
        _one_of(metadata["legal"]) or _range(place.kind, metadata),
        _default_by_component(same),
    )
    return place.flag, place.kind is bool, said


def _range(kind: Any, metadata: Mapping[str, Any]) -> str:
    """Returns the type and the bounds of an option; nothing for texts, true and false."""
    if kind in (bool, str):
        return ""
    least, most = (f"{metadata[name]:.10g}" for name in ("least", "most"))
    bounds = f"{least} to {most}"
    if most == "inf":
        bounds = "" if least == "-inf" else f"{least} or more"
    elif least == "-inf":
        bounds = f"{most} or less"
    said = ", ".join(filter(None, [describe(kind), bounds]))
    return f"{said[0].upper()}{said[1:]}."


def _default_by_component(same: list[Place]) -> str:
    """Returns the default of an option: one value, or one by component or task, as the default recipe has it."""
    tasks = REGISTRIES["task"]
    values: dict[tuple[str, str], str] = {}
    for place in same:
        for task in [place.component] if place.section == "task" else tasks:
            values[task, place.component] = text(_in_recipe(place.flag, task, place.field.default))
    by_task = {task: value for (task, _), value in values.items()}
    by_component = {component: value for (_, component), value in values.items()}
    named = {f"{task} with {component}": value for (task, component), value in values.items()}
    if all(by_task[task] == value for (task, _), value in values.items()):
        named = by_task
    elif all(by_component[component] == value for (_, component), value in values.items()):
        named = by_component
    return _default(_by_value(named))


def _in_recipe(flag: str, task: str, default: Any) -> Any:
    """Returns a flag's value in the default recipe for a task."""
    return recipes.values(RECIPES.default, REGISTRIES["task"][task]).get(flag, default)


def _by_value(named: Mapping[str, str]) -> str:
    """Returns the values with the names that have them, or the one value that all have."""
    by_value: dict[str, list[str]] = {}
    for name, value in named.items():
        by_value.setdefault(value, []).append(name)
    if len(by_value) == 1:
        return next(iter(by_value))
    return "; ".join(f"{value or 'none'} ({', '.join(names)})" for value, names in by_value.items())


def _analysis_groups() -> dict[str, list[Entry]]:
    found = {}
    for name in ANALYSES:
        for field in dataclasses.fields(ANALYSES.options(name)):
            wanted = type(field.default)
            said = _sentences(field.metadata["help"], _one_of(field.metadata["legal"]), _default(text(field.default)))
            found.setdefault(f"Analysis: {name}", []).append((field.name, wanted is bool, said))
    return found


def _one_of(legal: Iterable[str] | None) -> str:
    return f"One of: {', '.join(legal)}." if legal is not None else ""


def _default(value: str) -> str:
    return f"Default: {value}." if value else ""


def _sentences(*parts: str) -> str:
    return " ".join(filter(None, parts))


def _format(title: str, entries: list[Entry]) -> str:
    lines = [f"{title}:"]
    for flag, negatable, said in entries:
        name = f"  --{'[no]' if negatable else ''}{flag}: "
        lines += textwrap.wrap(said, WIDTH, initial_indent=name, subsequent_indent="      ", break_on_hyphens=False)
    return "\n".join(lines)
