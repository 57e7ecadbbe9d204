"""Draws the method in one picture (paper, section 4): forward, feedback, local update, and what changes when.

    python tools/figure_of_the_idea.py docs/idea.png

The same version of Matplotlib writes the same file every time; another one may place letters elsewhere. The file
therefore says which script drew it, by a hash.
"""

import hashlib
import itertools
import sys
from pathlib import Path

import matplotlib.figure
import matplotlib.patches
from matplotlib.axes import Axes

SLOW, FAST, BACK = "0.55", "tab:blue", "tab:orange"
# Position, number of neurons and label of every layer, from the input up.
LAYERS = (
    (0.0, 3, "$x$"),
    (2.2, 5, ""),
    (4.4, 5, "$h_{l-1}$"),
    (7.4, 5, "$h_l$"),
    (10.4, 2, r"$\hat{y}$"),
)
TRUNK = 2  # Layers of synapses that do not change in a lifetime.
GAP, RADIUS, TOP = 0.62, 0.19, 2.35


def draw() -> matplotlib.figure.Figure:
    """Returns the figure."""
    figure = matplotlib.figure.Figure(figsize=(10.5, 5.2), dpi=110)
    axes = figure.add_axes([0, 0, 1, 1])
    axes.set(xlim=(-0.8, 13.5), ylim=(-4.05, 3.05), aspect="equal")
    axes.axis("off")
    _network(axes)
    _feedback(axes)
    _equations(axes)
    return figure


def _network(axes: Axes) -> None:
    """Neurons, synapses, and what they are called."""
    columns = [[(x, (i - (n - 1) / 2) * GAP) for i in range(n)] for x, n, _ in LAYERS]
    for number, (below, above) in enumerate(itertools.pairwise(columns)):
        color, width = (SLOW, 0.6) if number < TRUNK else (FAST, 1.3)
        for start, end in itertools.product(below, above):
            axes.plot(*zip(start, end), color=color, linewidth=width, zorder=1)
    for (x, n, label), column in zip(LAYERS, columns):
        for place in column:
            axes.add_patch(matplotlib.patches.Circle(place, RADIUS, facecolor="white", edgecolor="0.2", zorder=2))
        axes.text(x, -(n - 1) / 2 * GAP - 0.5, label, ha="center", va="center", fontsize=15)
    axes.text(2.2, 1.6, "trunk", color="0.4", ha="center", fontsize=13)
    axes.text(5.9, 1.6, "plastic", color=FAST, ha="center", fontsize=13)
    for x, name in ((5.9, "$W_l$"), (8.9, "$W_{l+1}$")):
        box = {"facecolor": "white", "edgecolor": FAST, "boxstyle": "round,pad=0.25"}
        axes.text(x, 0, name, color=FAST, ha="center", va="center", fontsize=15, bbox=box, zorder=3)


def _feedback(axes: Axes) -> None:
    """The signal at the output, and its way to the plastic layers."""
    box = {"facecolor": "white", "edgecolor": BACK, "boxstyle": "round,pad=0.35"}
    axes.text(12.4, 0, r"$f = y - \hat{y}$", color=BACK, ha="center", va="center", fontsize=14, bbox=box)
    axes.annotate("", (11.55, 0), (10.68, 0), arrowprops={"arrowstyle": "->", "color": "0.3", "linewidth": 1.3})
    axes.plot([12.4, 12.4, 7.4], [0.4, TOP, TOP], color=BACK, linewidth=2)
    for x, bottom, name in ((7.4, 1.5, "$B_l$"), (10.4, 0.56, "$B_{l+1}$")):
        arrow = {"arrowstyle": "-|>", "color": BACK, "linewidth": 2}
        axes.annotate("", (x, bottom), (x, TOP), arrowprops=arrow)
        axes.text(x + 0.15, (TOP + bottom) / 2 + 0.05, name, color=BACK, va="center", fontsize=15)
    axes.text(9.9, TOP + 0.2, "feedback", color=BACK, ha="center", fontsize=13)


def _equations(axes: Axes) -> None:
    """What is computed, and what changes when."""
    rows = (
        ("0.1", "forward", r"$h_l = \mathrm{ReLU}(h_{l-1} W_l + b_l)$"),
        (BACK, "feedback", r"$z_l = \mathrm{ReLU}(f B_l + c_l), \quad p_l = (1-\beta_l)\, h_l + \beta_l\, z_l$"),
        (FAST, "local update", r"$W_l \leftarrow W_l + \alpha_l \ast (h_{l-1}^T p_l - W_l \ast \sum_n p_l^2)$"),
    )
    for i, (color, name, formula) in enumerate(rows):
        axes.text(-0.6, -2.45 - 0.62 * i, name, color=color, fontsize=12.5, va="center", weight="bold")
        axes.text(1.45, -2.45 - 0.62 * i, formula, color=color, fontsize=13.5, va="center")
    axes.text(8.5, -2.35, "In a lifetime, step after step:", fontsize=12, va="center", weight="bold")
    axes.text(8.5, -2.75, "$W$ of the plastic layers changes.", color=FAST, fontsize=12, va="center")
    axes.text(8.5, -3.3, "Across lifetimes, by gradient descent:", fontsize=12, va="center", weight="bold")
    axes.text(8.5, -3.7, r"where $W$ starts, $b$, $B$, $c$, $\alpha$, $\beta$, the trunk.", fontsize=12, va="center")


if __name__ == "__main__":
    # Without the version of Matplotlib, which would make another file of the same picture.
    source = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    draw().savefig(sys.argv[1], metadata={"Software": None, "Source": source})
