"""Configurations that other versions of flp_tf wrote."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from flp_tf import __version__
from flp_tf.component import GROUPS
from flp_tf.errors import InputError
from flp_tf.meta.optimizers import with_groups
from flp_tf.registry import NoOptions
from flp_tf.runs.recipes import RECIPES
from flp_tf.runs.sections import choose, flags_of, known

VERSION = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})(?![0-9])")
# What flp_tf 0.1 did without having an option for it.
IMPLIED = {RECIPES.flag: "paper", "initial": "fixed", "estimator": "backprop"}


def converted(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a `config.json` that this version reads, without its `versions`.

    flp_tf 0.1 stored the options of all components, with null where a task had none. Options of
    components that the file does not choose are left out here, because they had no effect.

    Args:
        content: of the file.

    Raises:
        InputError: if it is not a configuration, or a newer flp_tf wrote it.
    """
    if not isinstance(content, Mapping):
        raise InputError("it does not hold the fields of a configuration")
    values = dict(content)
    versions = values.pop("versions", {})
    written_by = versions.get("flp_tf", "") if isinstance(versions, Mapping) else None
    if not isinstance(written_by, str) or (written_by and not VERSION.match(written_by)):
        raise InputError("the field versions does not read")
    if _version(written_by) > _version(__version__):
        raise InputError(f"flp_tf {written_by} wrote it, this is flp_tf {__version__}; install the newer one")
    # Later versions always store the recipe, and never the options of two tasks.
    old = written_by.startswith("0.1.") or {"num_sines", "ways"} <= values.keys()
    return _from_0_1(values) if old and RECIPES.flag not in values else values


def _version(text: str) -> tuple[int, int]:
    """Returns the part of a version number on which the fields depend."""
    match = VERSION.match(text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _from_0_1(values: Mapping[str, Any]) -> dict[str, Any]:
    given = {flag: value for flag, value in values.items() if value is not None}
    has_effect = set(flags_of(choose(given | IMPLIED)))
    kept = {flag: value for flag, value in given.items() if flag in has_effect or flag not in known()}
    return kept | {flag: value for flag, value in IMPLIED.items() if flag in has_effect or flag == RECIPES.flag}


def without_idle_rates(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns fields without rates and optimizers of groups of weights that no chosen component has.

    Files from before November 2026 have such fields; they had no effect.

    Raises:
        InputError: if the fields name an unknown component.
    """
    rates = {field.name for field in dataclasses.fields(with_groups(NoOptions, GROUPS))}
    idle = rates.difference(flags_of(choose(values)))
    return {flag: value for flag, value in values.items() if flag not in idle}
