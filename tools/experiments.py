"""The cells of the paper's tables, and what the paper reports in them."""

from typing import NamedTuple


class Cell(NamedTuple):
    """One method in one order of the data.

    Attributes:
        name: of the method, as in flagfiles: `flags/{network}_{order}_{name}.cfg`.
        label: of the row.
        order: `iid` or `continual`.
        paper: the paper's error and standard error, as printed there; empty if none.
    """

    name: str
    label: str
    order: str
    paper: str


class Table(NamedTuple):
    """A table of the paper.

    Attributes:
        title: heading of the report.
        networks: prefixes of the flagfiles, by `--network`.
        unit: of the errors.
        cells: row by row.
        figures: analyses by the flagfile names of the runs they compare.
    """

    title: str
    networks: dict[str, str]
    unit: str
    cells: list[Cell]
    figures: dict[str, list[tuple[str, str]]]


def _rows(rows: list[tuple[str, str, str, str]]) -> list[Cell]:
    return [
        Cell(name, label, order, paper)
        for name, label, *pair in rows
        for order, paper in zip(("iid", "continual"), pair)
    ]


TABLE1 = Table(
    title="Table 1: online regression of ten sines",
    networks={"compact": "sine_compact", "paper": "sine_paper"},
    unit="MSE",
    cells=_rows(
        [
            ("feature_reuse", "feature reuse (1)", "0.050 (7e-3)", "0.035 (3e-3)"),
            ("flp2", "FLP (2)", "0.00093 (3e-5)", "0.0016 (6e-5)"),
            ("flp3", "FLP (3)", "0.00051 (8e-5)", "0.0068 (2e-3)"),
            ("gradient3", "gradient (3), second order", "", ""),
            ("gradient3_first_order", "gradient (3), first order", "0.00057 (2e-5)", "0.069 (0.02)"),
            ("oml3", "OML (3)", "0.072", "0.40"),
            ("dfa2", "DFA (2)", "", ""),
        ]
    ),
    figures={
        "readout": [("feature_reuse", "continual"), ("flp2", "continual"), ("flp3", "continual")],
        "adaptability": [("feature_reuse", "continual"), ("flp2", "continual")],
        "interference": [("flp2", "continual"), ("gradient3", "continual"), ("gradient3_first_order", "continual")],
        "alignment": [("flp2", "continual"), ("flp3", "continual")],
        "update_norms": [("flp2", "continual"), ("gradient3", "continual")],
        "learning_curves": [
            (name, "continual")
            for name in ("feature_reuse", "flp2", "flp3", "gradient3", "gradient3_first_order", "oml3", "dfa2")
        ],
    },
)

TABLE2 = Table(
    title="Table 2: online few-shot classification of Omniglot",
    networks={"compact": "omniglot_compact", "paper": "omniglot_paper"},
    unit="% error",
    cells=_rows(
        [
            ("feature_reuse", "feature reuse (1)", "4.6 (0.1)", "5.0 (0.1)"),
            ("flp2", "FLP (2)", "3.0 (0.1)", "2.7 (0.1)"),
            ("gradient2", "gradient (2), second order", "", ""),
            ("gradient2_first_order", "gradient (2), first order", "3.2 (0.1)", "3.4 (0.1)"),
            ("oml2", "OML (2)", "3.5", "7.0"),
            ("dfa2", "DFA (2)", "", ""),
        ]
    ),
    figures={
        "learning_curves": [
            (name, "continual")
            for name in ("feature_reuse", "flp2", "gradient2", "gradient2_first_order", "oml2", "dfa2")
        ],
        "update_norms": [("flp2", "continual"), ("gradient2", "continual")],
    },
)

TABLES = {"table1": TABLE1, "table2": TABLE2}
