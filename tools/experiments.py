"""The cells of the paper's tables and of its extensions: the flags of each cell, and what the paper reports."""

from pathlib import Path
from typing import NamedTuple

FLAGS = Path(__file__).resolve().parents[1] / "flags"
ORDERS = {"iid": "--nocontinual", "continual": "--continual"}
METHODS = {
    "feature_reuse": ("--method=feature_reuse",),
    "feature_reuse_linear": ("--method=feature_reuse", "--feedback_activation=linear"),
    "flp2": ("--method=flp", "--num_plastic_layers=2"),
    "flp2_linear": ("--method=flp", "--num_plastic_layers=2", "--feedback_activation=linear"),
    "flp3": ("--method=flp", "--num_plastic_layers=3"),
    # In the compact network, tells the effect of FLP (3)'s third layer from that of its smaller plasticity scale.
    "flp2_scale_of_flp3": ("--method=flp", "--num_plastic_layers=2", "--plasticity_scale=3e-4"),
    "dfa2": ("--method=dfa", "--num_plastic_layers=2"),
    "dfa3": ("--method=dfa", "--num_plastic_layers=3"),
    "gradient2": ("--method=gradient", "--num_plastic_layers=2", "--second_order"),
    "gradient2_first_order": ("--method=gradient", "--num_plastic_layers=2", "--nosecond_order"),
    "gradient3": ("--method=gradient", "--num_plastic_layers=3", "--second_order"),
    "gradient3_first_order": ("--method=gradient", "--num_plastic_layers=3", "--nosecond_order"),
    "oml2": ("--method=oml", "--num_plastic_layers=2", "--second_order"),
    "oml3": ("--method=oml", "--num_plastic_layers=3", "--second_order"),
    "oml3_first_order": ("--method=oml", "--num_plastic_layers=3", "--nosecond_order"),
    "output_feedback2": ("--method=flp", "--num_plastic_layers=2", "--nohidden_feedback"),
    "hebb2": ("--method=flp", "--num_plastic_layers=2", "--rule=hebb"),
    "post_feedback2": ("--method=flp", "--num_plastic_layers=2", "--presynaptic=post_feedback"),
    "target2": ("--method=flp", "--num_plastic_layers=2", "--feedback_signal=target"),
    "feedback_units2": ("--method=flp", "--num_plastic_layers=2", "--feedback_units=100"),
    "per_neuron2": ("--method=flp", "--num_plastic_layers=2", "--granularity=per_neuron"),
    "per_layer2": ("--method=flp", "--num_plastic_layers=2", "--granularity=per_layer"),
    "flp6": ("--method=flp", "--num_plastic_layers=6"),
    # What the paper leaves open (section 8): each has a flagfile with all of its flags.
    "polynomial2": (),
    "plastic2": (),
    "cascade2": (),
    "gaussian2": (),
    "recurrent2": (),
    "lengths2": (),
}


class Cell(NamedTuple):
    """One method in one order of the data.

    Attributes:
        name: of the method, a key of `METHODS`.
        label: label of the row.
        order: a key of `ORDERS`.
        paper: the paper's error and standard error, as printed there; empty if none.
    """

    name: str
    label: str
    order: str
    paper: str

    def flags(self, network: str) -> list[str]:
        """Returns all flags of the cell's run except `--seed` and `--logdir`.

        Args:
            network: a value of `Table.networks`.
        """
        return [f"--flagfile={self.flagfile(network)}", ORDERS[self.order], *METHODS[self.name]]

    def flagfile(self, network: str) -> Path:
        """Returns the flagfile of the cell, or else of its method, or else of the network.

        Only a cell or method that needs values of its own has a flagfile; it includes that of the network.

        Args:
            network: a value of `Table.networks`.
        """
        names = (f"{network}_{self.order}_{self.name}", f"{network}_{self.name}", network)
        return next(path for name in names if (path := FLAGS / f"{name}.cfg").exists())


class Figure(NamedTuple):
    """A figure of a report.

    Attributes:
        analysis: its name.
        cells: method and order of the runs that it compares.
        flags: options of the analysis.
    """

    analysis: str
    cells: list[tuple[str, str]]
    flags: tuple[str, ...] = ()


class Table(NamedTuple):
    """A table of the paper.

    Attributes:
        title: heading of the report.
        networks: flagfiles (without `.cfg`) by `--network`.
        unit: of the errors.
        cells: row by row.
        figures: by the name of their folder.
        reference: the method that all others are compared with, in the same order of the data.
    """

    title: str
    networks: dict[str, str]
    unit: str
    cells: list[Cell]
    figures: dict[str, Figure]
    reference: str = "flp2"


def _rows(rows: list[tuple[str, ...]]) -> list[Cell]:
    """Returns a cell for each order, from rows `(name, label, paper's i.i.d., paper's continual)`."""
    return [Cell(name, label, order, paper) for name, label, *pair in rows for order, paper in zip(ORDERS, pair)]


def _figures(**cells: list[tuple[str, str]]) -> dict[str, Figure]:
    """Returns a figure for each analysis."""
    return {analysis: Figure(analysis, of_analysis) for analysis, of_analysis in cells.items()}


TABLE1 = Table(
    title="Table 1: online regression of ten sines",
    networks={"compact": "sine_compact", "paper": "sine_paper"},
    unit="MSE",
    cells=_rows(
        [
            ("feature_reuse", "feature reuse (1)", "0.050 (7e-3)", "0.035 (3e-3)"),
            ("feature_reuse_linear", "feature reuse (1), linear feedback", "", ""),
            ("flp2", "FLP (2)", "0.00093 (3e-5)", "0.0016 (6e-5)"),
            ("flp2_linear", "FLP (2), linear feedback", "", ""),
            ("flp3", "FLP (3)", "0.00051 (8e-5)", "0.0068 (2e-3)"),
            ("flp2_scale_of_flp3", "FLP (2), plasticity scale of FLP (3)", "", ""),
            ("gradient3", "gradient (3), second order", "", ""),
            ("gradient3_first_order", "gradient (3), first order", "0.00057 (2e-5)", "0.069 (0.02)"),
            ("oml3", "OML (3), second order", "", ""),
            ("oml3_first_order", "OML (3), first order", "0.072", "0.40"),
            ("dfa2", "DFA (2)", "", ""),
        ]
    ),
    # Feature reuse with the paper's ReLU hardly trains (docs/outer_loop.md).
    figures=_figures(
        readout=[("feature_reuse_linear", "continual"), ("flp2", "continual"), ("flp3", "continual")],
        adaptability=[("feature_reuse_linear", "continual"), ("flp2", "continual")],
        interference=[("flp2", "continual"), ("gradient3", "continual"), ("gradient3_first_order", "continual")],
        alignment=[("flp2", "continual"), ("flp3", "continual")],
        # The paper's Fig. 2D is of the i.i.d. task.
        update_norms=[("flp2", "iid"), ("gradient3", "iid"), ("gradient3_first_order", "iid")],
        learning_curves=[
            (name, "continual")
            for name in ("feature_reuse_linear", "flp2", "flp3", "gradient3", "gradient3_first_order", "oml3", "dfa2")
        ],
    )
    | {
        "update_norms_continual": Figure("update_norms", [("flp2", "continual"), ("gradient3", "continual")]),
        # In longer ones not all lifetimes are finite.
        "lengths": Figure("lengths", [("flp2", "continual")], ("--scales=1,2",)),
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
    figures=_figures(
        learning_curves=[
            (name, "continual")
            for name in ("feature_reuse", "flp2", "gradient2", "gradient2_first_order", "oml2", "dfa2")
        ],
        update_norms=[("flp2", "continual"), ("gradient2", "continual")],
    ),
)

TABLE2_MINI_IMAGENET = Table(
    title="Table 2: online few-shot classification of mini-ImageNet",
    networks={"compact": "mini_imagenet_compact", "paper": "mini_imagenet_paper"},
    unit="% error",
    cells=_rows(
        [
            ("feature_reuse", "feature reuse (1)", "48.2 (0.1)", ""),
            ("flp2", "FLP (2)", "42.5 (0.6)", ""),
            ("gradient2", "gradient (2), second order", "", ""),
            ("gradient2_first_order", "gradient (2), first order", "42.5", ""),
            ("oml2", "OML (2)", "52.0", ""),
        ]
    ),
    figures=_figures(learning_curves=[(name, "iid") for name in ("feature_reuse", "flp2", "gradient2", "oml2")]),
)


def _against_flp(title: str, rows: list[tuple[str, str]], figures: dict[str, Figure]) -> Table:
    """Returns a table of the compact sine network whose first row is FLP (2).

    Args:
        title: heading of the report.
        rows: names and labels of the methods below FLP (2); the paper reports two of all methods.
        figures: by the name of their folder.
    """
    paper = {"flp2": ("0.00093 (3e-5)", "0.0016 (6e-5)"), "flp3": ("0.00051 (8e-5)", "0.0068 (2e-3)")}
    all_rows = [("flp2", "FLP (2)"), *rows]
    return Table(
        title=title,
        networks={"compact": "sine_compact"},
        unit="MSE",
        cells=_rows([(name, label, *paper.get(name, ("", ""))) for name, label in all_rows]),
        figures=figures,
    )


EXTENSIONS = _against_flp(
    "What the paper leaves open: online regression of ten sines",
    [
        ("polynomial2", "polynomial rule"),
        ("plastic2", "plastic feedback"),
        ("cascade2", "feedback from all layers above"),
        ("gaussian2", "weights drawn for every lifetime"),
        ("recurrent2", "recurrent dynamics"),
        ("lengths2", "lengths drawn at random"),
        ("dfa2", "DFA (2)"),
    ],
    {
        "coefficients": Figure("history", [("polynomial2", "continual")], flags=("--scalars=rule",)),
        "lengths": Figure("lengths", [("flp2", "continual"), ("lengths2", "continual")]),
        "settling": Figure("settling", [("recurrent2", "continual")]),
    },
)

REMARKS = _against_flp(
    "The paper's side remarks, and controls: online regression of ten sines",
    [
        ("dfa2", "random feedback, DFA (2)"),
        ("output_feedback2", "feedback to the output alone"),
        ("hebb2", "Hebb's rule"),
        ("post_feedback2", "presynaptic activity after feedback"),
        ("target2", "feedback of the target"),
        ("flp2_linear", "linear feedback"),
        ("feedback_units2", "feedback through a hidden layer"),
        ("per_neuron2", "a plasticity per neuron"),
        ("per_layer2", "a plasticity per layer"),
        ("flp6", "all layers plastic"),
        ("flp3", "FLP (3)"),
        ("dfa3", "random feedback, DFA (3)"),
    ],
    {"lengths": Figure("lengths", [("flp2", "continual")])},
)

TABLES = {
    "table1": TABLE1,
    "table2": TABLE2,
    "table2_mini_imagenet": TABLE2_MINI_IMAGENET,
    "extensions": EXTENSIONS,
    "remarks": REMARKS,
}
