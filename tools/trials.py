"""From the values of a search space to the flags of a trial."""

from typing import Any

import spaces
from experiments import TABLES, Cell

# Evaluations of a trial, at equal distances in lifetimes.
REPORTS = 20


def cells() -> dict[str, tuple[str, Cell]]:
    """Returns network and cell of every space, by name."""
    return {
        f"{network}_{cell.order}_{cell.name}": (network, cell)
        for table in TABLES.values()
        for network in table.networks.values()
        for cell in table.cells
    }


def spend(cost: float, shares: list[tuple[int, float]], full: int, meta_batch: int) -> dict[str, Any]:
    """Returns the flags `curriculum` and `episodes` that simulate `cost` inner steps.

    Args:
        cost: inner steps of all lifetimes.
        shares: `(length, share of the cost)` of each phase before the last.
        full: length of the lifetimes of the last phase.
        meta_batch: lifetimes of an outer step; phases are of whole steps.
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


def as_in_the_flagfile(base: Any, ranges: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of the flagfile as far as they are in the ranges, for the first trial."""
    known = {name: getattr(base, name) for name in ranges if hasattr(base, name)}
    known |= {"curriculum": spaces.FLAGFILE, "warmup": warmup_of(base)}
    return {
        name: known[name]
        for name, values in ranges.items()
        if name in known
        and (values.low <= known[name] <= values.high if isinstance(values, spaces.Log) else known[name] in values)
    }
