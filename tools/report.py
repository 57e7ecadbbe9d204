"""Writes a report: the table beside that of the paper, and the figures."""

import json
import math
from pathlib import Path

import markdown
import numpy as np
from experiments import Cell, Table

from flp_tf.statistics import ratio, standard_error

FILES = ("report.md", "report.html", "table.json")
# Columns of a row in table.json.
COLUMNS = (
    "method",
    "num_plastic_layers",
    "second_order",
    "continual",
    "mean",
    "stderr_over_networks",
    "stderr_over_lifetimes",
    "errors",
    "seeds",
    "failed",
    "ratio",
    "ratio_low",
    "ratio_high",
    "verdict",
    "episodes",
    "minutes",
)
HEADINGS = (
    *("method", "order", "here", "std. error over networks", "over lifetimes", "paper", "ratio to {reference}"),
    *("verdict", "seeds", "lifetimes each", "minutes each"),
)
STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:75em;margin:2em auto;padding:0 1em}img{max-width:100%}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.3em .7em;text-align:left}"
)


def row_of(cell: Cell, found: list[dict], failed_above: float) -> dict:
    """Returns the row of a cell; it has no mean if all of its trainings failed.

    Args:
        cell: the cell.
        found: the results of its runs, from `reproduce.result`.
        failed_above: see `failed`.
    """
    results = [one for one in found if not failed(one, failed_above)]
    row = {"name": cell.name, "label": cell.label, "order": cell.order, "paper": cell.paper}
    row |= {"continual": cell.order == "continual", "failed": len(found) - len(results)}
    row |= {"seeds": [one["seed"] for one in results], "machines": []}
    row |= {"errors": [one["meta_test"]["mean"] for one in results]}
    if not results:
        return row
    minutes = [one["minutes"] for one in results if "minutes" in one]
    return row | {
        "method": results[0]["method"],
        "num_plastic_layers": results[0]["num_plastic_layers"],
        "second_order": results[0].get("second_order"),
        "mean": sum(row["errors"]) / len(results),
        "stderr_over_networks": float(standard_error(row["errors"])) if len(results) > 1 else None,
        "stderr_over_lifetimes": sum(one["meta_test"]["stderr"] for one in results) / len(results),
        "episodes": min(one["episodes"] for one in results),
        "planned": max(one["planned"] for one in results),
        "minutes": sum(minutes) / len(minutes) if minutes else None,
        "machines": sorted({one.get("machine", "machines not recorded") for one in results}),
    }


def failed(result: dict, failed_above: float) -> bool:
    """Returns whether a training diverged, or its network learns nothing in a lifetime.

    Args:
        result: from `reproduce.result`.
        failed_above: largest error after a lifetime, as a share of the error before it, that does not count as failed.
    """
    return "diverged" in result or result["meta_test"]["mean"] > failed_above * result["before_lifetime"]["mean"]


def compared(rows: list[dict], reference: str) -> list[dict]:
    """Returns the rows with their ratio to the row of the reference in the same order of the data.

    Args:
        rows: from `row_of`.
        reference: name of a method. If it has no network, there is no ratio.
    """
    errors = {row["order"]: row["errors"] for row in rows if row["name"] == reference}
    return [
        row if row["name"] == reference else row | _against(row["errors"], errors.get(row["order"], [])) for row in rows
    ]


def _against(errors: list[float], reference: list[float]) -> dict:
    """Returns the ratio of some networks' errors to those of others, and its interval; empty if either has none."""
    if not errors or not reference:
        return {}
    found = ratio(np.array(errors), np.array(reference))
    ends = [None if math.isnan(end) else end for end in (found.low, found.high)]
    return {"ratio": found.estimate, "ratio_low": ends[0], "ratio_high": ends[1], "verdict": found.verdict()}


def write_report(table: Table, rows: list[dict], pictures: list[Path], out: Path, provenance: str) -> None:
    """Writes `report.md`, `report.html` and `table.json` into a folder.

    Both reports show the PNG files in the folder and do not contain copies of them.

    Args:
        table: the paper's table.
        rows: from `compared`.
        pictures: PNG files below `out`.
        out: the folder.
        provenance: the command, date and machine behind the numbers.
    """
    out.mkdir(parents=True, exist_ok=True)
    lines = [f"# {table.title}", "", f"Made by {provenance}. Errors are {table.unit} of the meta-test.", ""]
    lines += _table(table, rows)
    for picture in pictures:
        name = picture.parent.name
        lines += ["", f"## {name.replace('_', ' ').capitalize()}", "", f"![{name}]({picture.relative_to(out)})"]
    text = "\n".join(lines) + "\n"
    report, page, rows_file = (out / name for name in FILES)
    report.write_text(text)
    body = markdown.markdown(text, extensions=["tables"])
    page.write_text(f"<!doctype html><meta charset=utf-8><title>{table.title}</title><style>{STYLE}</style>{body}")
    plain = [{name: row.get(name) for name in COLUMNS} for row in rows]
    rows_file.write_text(json.dumps(plain, indent=1) + "\n")


def draw_comparison(table: Table, rows: list[dict], file: Path) -> bool:
    """Draws the networks of all rows, a panel per order of the data; returns whether there are any."""
    # Imported here, because TensorFlow takes seconds that bad input need not wait for.
    from flp_tf.analysis import comparison, figures

    panels: dict[str, list[comparison.Row]] = {}
    for row in rows:
        if row["errors"]:
            look = figures.look(row["method"], row["num_plastic_layers"])
            drawn = comparison.Row(row["label"], np.array(row["errors"]), row["failed"], look)
            panels.setdefault("continual" if row["continual"] else "i.i.d.", []).append(drawn)
    if panels:
        file.parent.mkdir(parents=True, exist_ok=True)
        comparison.draw(panels, table.unit).savefig(file, dpi=100)
    return bool(panels)


def _table(table: Table, rows: list[dict]) -> list[str]:
    """Returns the Markdown lines of the table; a cell without a run says so."""
    labels = {cell.name: cell.label for cell in table.cells}
    headings = [heading.format(reference=labels[table.reference]) for heading in HEADINGS]
    lines = [f"| {' | '.join(headings)} |", "|" + " --- |" * len(headings)]
    found = {(row["label"], row["order"]): row for row in rows}
    for cell in table.cells:
        row = found.get((cell.label, cell.order), {"failed": 0, "seeds": []})
        here = [_short(row["mean"])] if row["seeds"] else []
        here += [f"{row['failed']} failed"] if row["failed"] else []
        networks = lifetimes = against = seeds = episodes = minutes = ""
        if row["seeds"]:
            networks = _short(row["stderr_over_networks"], "{:.1g}") or "-"
            lifetimes = f"{row['stderr_over_lifetimes']:.1g}"
            seeds = ", ".join(map(str, row["seeds"]))
            episodes = str(row["episodes"]) + f" of {row['planned']}" * (row["episodes"] < row["planned"])
            minutes = _short(row["minutes"], "{:.0f}") or "-"
            ends = f" ({_short(row['ratio_low'])} to {_short(row['ratio_high'])})" if row.get("ratio_low") else ""
            against = _short(row.get("ratio")) + ends
        texts = (cell.label, cell.order, "; ".join(here) or "not run", networks, lifetimes, cell.paper or "-", against)
        lines.append(f"| {' | '.join((*texts, row.get('verdict', ''), seeds, episodes, minutes))} |")
    notes = (
        "Trainings that failed, which diverged or learn next to nothing, are in no mean. The standard error "
        "over networks needs two seeds; that over lifetimes is the mean of the networks' own. Ratios are of geometric "
        "means over networks, with Welch's 95 % interval; the verdict is lower or higher where it is without 1. The "
        "comparison shows all networks that trained, other figures those of them that have a checkpoint."
    )
    return [*lines, "", notes]


def _short(number: float | None, form: str = "{:.3g}") -> str:
    """Returns a number in few digits; an empty string for None."""
    return "" if number is None else form.format(number)
