"""Writes the table of a search: `search.md`, `trials.csv`, and `best.cfg`, a flagfile."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILES = ("search.md", "trials.csv", "best.cfg")
COLUMNS = ("rank", "trial", "status", "value", "lifetimes", "minutes")
# Flags of a trial that follow from the cost.
FOLLOWING = ("eval_every",)


def write(trials: Sequence[Any], out: Path, space: str, cost: int, base: Sequence[str]) -> None:
    """Writes the table of all trials, the best first.

    Args:
        trials: of an Optuna study.
        out: the folder.
        space: its name.
        cost: inner steps of a trial.
        base: the flags that all trials have.
    """
    found = rows(trials)
    names = list(dict.fromkeys(flag for row in found for flag in row["flags"]))
    with (out / "trials.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *names])
        writer.writerows(
            [*(row[column] for column in COLUMNS), *(row["flags"].get(n, "") for n in names)] for row in found
        )
    lines = [
        f"# {space}",
        "",
        f"{len(found)} trials of {cost:,} inner steps each; the value is the error on validation lifetimes. A hopeless",
        "trial ended early, with the error that it had then.",
        "",
        f"All: `{' '.join(base)}`",
        "",
        f"| {' | '.join(COLUMNS)} | flags |",
        "|" + " --- |" * (len(COLUMNS) + 1),
    ]
    for row in found:
        cells = [f"{value:.4g}" if isinstance(value, float) else value for value in (row[column] for column in COLUMNS)]
        flags = " ".join(f"--{flag}={value}" for flag, value in row["flags"].items() if flag not in FOLLOWING)
        lines.append(f"| {' | '.join(map(str, cells))} | `{flags}` |")
    (out / "search.md").write_text("\n".join(lines) + "\n")
    if found and found[0]["status"] == "finished":
        best = [f"--{flag}={value}" for flag, value in found[0]["flags"].items() if flag not in FOLLOWING]
        comment = f"# Trial {found[0]['trial']} of tools/search {space}: validation error {found[0]['value']:.4g}."
        (out / "best.cfg").write_text("\n".join([comment, *base, *best]) + "\n")
        print(f"Best: trial {found[0]['trial']} with {found[0]['value']:.4g}; {out / 'best.cfg'} has its flags")
    print(f"Table: {out / 'search.md'}")


def rows(trials: Sequence[Any]) -> list[dict[str, Any]]:
    """Returns a row for each trial that has begun: finished ones by value, then hopeless ones by last error."""
    found = []
    for trial in trials:
        if "flags" not in trial.user_attrs:
            continue
        reported = trial.intermediate_values
        last = reported[max(reported)] if reported else float("inf")
        status = trial.user_attrs.get("status", "unfinished")
        row = {"trial": trial.number, "status": status, "flags": trial.user_attrs["flags"]}
        row["value"] = last if trial.value is None else trial.value
        row |= {"lifetimes": trial.user_attrs.get("lifetimes", ""), "minutes": trial.user_attrs.get("minutes", "")}
        found.append(row)
    order = ("finished", "hopeless", "diverged", "unfinished")
    found.sort(key=lambda row: (order.index(row["status"]), row["value"]))
    return [{"rank": rank, **row} for rank, row in enumerate(found, 1)]
