"""Converts the values of a search space to the flags of a trial."""

from collections.abc import Collection, Sequence
from typing import Any

import spaces
from experiments import TABLES, Cell

from flp_tf.errors import InputError

# Number of evaluations of a trial, at equal distances in lifetimes.
REPORTS = 20
# Flags that follow from the cost of a trial. With the flag below, the cost gives no number of lifetimes.
OF_COST = ("episodes", "warmup_steps", "eval_every")
AGAINST_COST = "lifetimes"


def cells() -> dict[str, tuple[str, Cell]]:
    """Returns the network and the cell of every space, by name."""
    return {
        f"{network}_{cell.order}_{cell.name}": (network, cell)
        for table in TABLES.values()
        for network in table.networks.values()
        for cell in table.cells
        if cell.name not in spaces.NOT_SEARCHED
    }


def spend(cost: float, shares: list[tuple[int, float]], full: int, meta_batch: int) -> dict[str, Any]:
    """Returns the flags `curriculum` and `episodes` that simulate `cost` inner steps.

    Args:
        cost: inner steps of all lifetimes.
        shares: `(length, share of the cost)` of each phase before the last.
        full: length of the lifetimes of the last phase.
        meta_batch: lifetimes of an outer step; phases consist of whole steps.
    """
    rest = 1.0 - sum(share for _, share in shares)
    counts = [
        max(round(cost * share / length / meta_batch), 1) * meta_batch for length, share in [*shares, (full, rest)]
    ]
    curriculum = ",".join(f"{length}:{count}" for (length, _), count in zip(shares, counts))
    return {"curriculum": curriculum, "episodes": sum(counts)}


def shares_of(config: Any, full: int) -> list[tuple[int, float]]:
    """Returns the phases of a configuration's curriculum as `(length, share of all inner steps)`, without the last."""
    phases = config.phases()
    ends = [*(phase.start for phase in phases[1:]), config.episodes]
    steps = [(phase.length(full), phase.length(full) * (end - phase.start)) for phase, end in zip(phases, ends)]
    total = sum(cost for _, cost in steps)
    return [(length, cost / total) for length, cost in steps[:-1]]


def warmup_of(config: Any) -> float:
    """Returns the share of a configuration's outer steps over which rates rise."""
    return config.warmup_steps * config.meta_batch / config.episodes


def flags_of(values: dict[str, Any], base: Any, cost: float, full: int) -> dict[str, Any]:
    """Returns the flags of a trial from the values that Optuna suggests.

    Args:
        values: by name in `spaces.py`.
        base: the configuration of the flagfile.
        cost: inner steps of a trial.
        full: length of the lifetimes.
    """
    found = {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in values.items()}
    curriculum = found.pop("curriculum", spaces.FLAGFILE)
    if curriculum == spaces.FLAGFILE:
        shares = shares_of(base, full)
    else:
        parts = [part.split(":") for part in filter(None, curriculum.split(","))]
        shares = [(int(length), float(share)) for length, share in parts]
    meta_batch = found.get("meta_batch", base.meta_batch)
    found |= spend(cost, shares, full, meta_batch)
    steps = found["episodes"] // meta_batch
    found["warmup_steps"] = round(found.pop("warmup", warmup_of(base)) * steps)
    # Incidental: evaluations at equal distances.
    return found | {"eval_every": max(found["episodes"] // REPORTS, meta_batch)}


def suggest(trial: Any, ranges: dict[str, Any]) -> dict[str, Any]:
    """Returns a trial's values, by name in `spaces.py`."""
    return {
        name: trial.suggest_float(name, *values, log=True)
        if isinstance(values, spaces.Log)
        else trial.suggest_categorical(name, values)
        for name, values in ranges.items()
    }


def chosen(ranges: dict[str, Any], only: Sequence[str], fixed: Collection[str]) -> dict[str, Any]:
    """Returns the ranges that `--only` names; without `--only`, all ranges except those of fixed flags.

    Args:
        ranges: of the space.
        only: the names; empty for all.
        fixed: the flags that `--flags` gives.

    Raises:
        InputError: if `--only` names a flag that is fixed or not in the space, or if a fixed flag follows from the
            cost or contradicts it.
    """
    if derived := [name for name in OF_COST if name in fixed]:
        raise InputError(f"--flags: --{derived[0]} follows from --cost; legal are flags that do not")
    if AGAINST_COST in fixed:
        raise InputError(
            f"--flags: --{AGAINST_COST} does not go with --cost, because drawn lengths give no fixed number of "
            "lifetimes; legal are --lifetime and --curriculum"
        )
    if both := [name for name in only if name in fixed]:
        raise InputError(f"--only={','.join(only)}: {both[0]} is fixed by --flags; legal is one of both")
    if unknown := [name for name in only if name not in ranges]:
        raise InputError(f"--only={','.join(only)}: {unknown[0]} is not searched; legal are {', '.join(ranges)}")
    asked = only or [name for name in ranges if name not in fixed]
    return {name: values for name, values in ranges.items() if name in asked}


def as_in_the_flagfile(base: Any, ranges: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of the flagfile, for the first trial.

    Raises:
        InputError: if one of them is not in its range.
    """
    derived = {"curriculum": spaces.FLAGFILE, "warmup": warmup_of(base)}
    start = {name: derived[name] if name in derived else getattr(base, name) for name in ranges}
    for name, values in ranges.items():
        log = isinstance(values, spaces.Log)
        if not (values.low <= start[name] <= values.high if log else start[name] in values):
            legal = f"{values.low:g} to {values.high:g}" if log else ", ".join(map(str, values))
            raise InputError(f"{name} is {start[name]} in the flagfile; the search has {legal} (spaces.py)")
    return start
