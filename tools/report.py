"""Writes a report: the table beside the paper's, and the figures."""

import csv
import json
from pathlib import Path

import markdown
from experiments import Cell, Table

from flp_tf.statistics import standard_error

FILES = ("report.md", "report.html", "table.json")
# Of a row in table.json.
COLUMNS = (
    "method",
    "num_plastic_layers",
    "second_order",
    "continual",
    "mean",
    "stderr_over_networks",
    "stderr_over_lifetimes",
    "seeds",
    "diverged",
    "episodes",
    "minutes",
)
HEADINGS = (
    *("method", "order", "here", "std. error over networks", "over lifetimes", "paper", "seeds"),
    *("lifetimes each", "minutes each"),
)
STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}img{max-width:100%}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.3em .7em;text-align:left}"
)


def row_of(cell: Cell, found: list[dict]) -> dict:
    """Returns the row of a cell; without a mean if all of its runs diverged.

    Args:
        cell: the cell.
        found: of each of its runs, from `reproduce.result`.
    """
    results = [one for one in found if "diverged" not in one]
    row = {"label": cell.label, "order": cell.order, "paper": cell.paper, "continual": cell.order == "continual"}
    row |= {"diverged": len(found) - len(results), "seeds": [one["seed"] for one in results], "machines": []}
    if not results:
        return row
    means = [one["meta_test"]["mean"] for one in results]
    mean = sum(means) / len(means)
    minutes = [one["minutes"] for one in results if "minutes" in one]
    return row | {
        "method": results[0]["method"],
        "num_plastic_layers": results[0]["num_plastic_layers"],
        "second_order": results[0].get("second_order"),
        "mean": mean,
        "stderr_over_networks": float(standard_error(means)) if len(means) > 1 else None,
        "stderr_over_lifetimes": sum(one["meta_test"]["stderr"] for one in results) / len(results),
        "episodes": min(one["episodes"] for one in results),
        "planned": max(one["planned"] for one in results),
        "minutes": sum(minutes) / len(minutes) if minutes else None,
        "machines": sorted({one.get("machine", "machines not recorded") for one in results}),
    }


def write_report(table: Table, rows: list[dict], pictures: list[Path], out: Path, provenance: str) -> None:
    """Writes `report.md`, `report.html` and `table.json` into a folder.

    Both reports show the PNG files below the folder, and hold no copies of them.

    Args:
        table: the paper's table.
        rows: from `reproduce.collect`.
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
        if picture.name == "comparison.png":
            lines += ["", *_comparison(picture.with_suffix(".csv"))]
    text = "\n".join(lines) + "\n"
    report, page, rows_file = (out / name for name in FILES)
    report.write_text(text)
    body = markdown.markdown(text, extensions=["tables"])
    page.write_text(f"<!doctype html><meta charset=utf-8><title>{table.title}</title><style>{STYLE}</style>{body}")
    plain = [{name: row.get(name) for name in COLUMNS} for row in rows]
    rows_file.write_text(json.dumps(plain, indent=1) + "\n")


def _table(table: Table, rows: list[dict]) -> list[str]:
    """Returns the Markdown lines of the table; a cell without a run says so."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + " --- |" * len(HEADINGS)]
    found = {(row["label"], row["order"]): row for row in rows}
    for cell in table.cells:
        row = found.get((cell.label, cell.order))
        here = f"{row['diverged']} diverged" if row else "not run"
        networks = lifetimes = seeds = episodes = minutes = ""
        if row and row["seeds"]:
            here = f"{row['mean']:.3g}" + f"; {here}" * bool(row["diverged"])
            networks = "-" if row["stderr_over_networks"] is None else f"{row['stderr_over_networks']:.1g}"
            lifetimes = f"{row['stderr_over_lifetimes']:.1g}"
            seeds = ", ".join(map(str, row["seeds"]))
            episodes = str(row["episodes"]) + f" of {row['planned']}" * (row["episodes"] < row["planned"])
            minutes = "-" if row["minutes"] is None else f"{row['minutes']:.0f}"
        texts = (cell.label, cell.order, here, networks, lifetimes, cell.paper or "-", seeds, episodes, minutes)
        lines.append(f"| {' | '.join(texts)} |")
    notes = (
        "The standard error over networks needs two seeds; that over lifetimes is the mean of the networks' own. "
        "Comparisons show all networks that have a checkpoint, tested in the same lifetimes, other figures one of each "
        "method: the first that trained. Ratios are of geometric means, with 95 % intervals."
    )
    return [*lines, "", notes]


def _comparison(path: Path) -> list[str]:
    """Returns the Markdown lines of a comparison's CSV file, none if there is no such file."""
    if not path.exists():
        return []
    lines = [
        "| method | networks | failed | error (std. error over networks) | ratio to the first | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            error = " ".join(
                filter(None, (_short(row["mean"]), _short(row["standard_error_over_networks"], "({:.1g})")))
            )
            between = f" ({_short(row['ratio_low'])} to {_short(row['ratio_high'])})" if row["ratio_low"] else ""
            ratio = _short(row["ratio"]) + between
            lines.append(
                f"| {row['method']} | {row['networks']} | {row['failed']} | {error} | {ratio} | {row['verdict']} |"
            )
    return lines


def _short(cell: str, form: str = "{:.3g}") -> str:
    """Returns a number of a CSV file in few digits, nothing for an empty cell."""
    return form.format(float(cell)) if cell else ""
