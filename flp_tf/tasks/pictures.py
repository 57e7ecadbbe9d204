"""Pictures of an episode: what the network answers before and after a lifetime."""

import matplotlib.figure
import numpy as np

from flp_tf.tasks.base import Episode, Task


def sines(task: Task, episode: Episode, before: np.ndarray, after: np.ndarray) -> matplotlib.figure.Figure:
    """Draws every sine of the first lifetime of an episode, with the predictions.

    Args:
        task: a `Task` whose last input is the x of the curve.
        episode: an `Episode`.
        before: outputs for the query before the lifetime `[lifetimes, query_examples, 1]`.
        after: the same after the lifetime.
    """
    columns = min(task.num_concepts, 5)
    rows = -(-task.num_concepts // columns)
    figure = matplotlib.figure.Figure(figsize=(2.4 * columns, 2.2 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    parts = (np.asarray(part)[0, :, -1] for part in (episode.query_x, episode.query_y, before, after))
    curves = [np.split(part, task.num_concepts) for part in parts]
    # Outputs that diverged are cut off; otherwise the targets would look flat.
    limit = 1.3 * np.max(np.abs(curves[1]))
    for i, (axis, x, y, first, last) in enumerate(zip(axes, *curves)):
        order = np.argsort(x)
        axis.plot(x[order], y[order], color="0.6", linewidth=3, label="target")
        axis.plot(x[order], first[order], color="tab:orange", linestyle=":", label="before the lifetime")
        axis.plot(x[order], last[order], color="tab:blue", label="after the lifetime")
        axis.set_ylim(-limit, limit)
        axis.set_title(f"sine {i + 1}: {task.unit} {np.mean((last - y) ** 2):.2g}", fontsize=9)
        axis.set_xlabel("x", fontsize=8)
        axis.set_ylabel("y", fontsize=8)
        axis.label_outer()
    for axis in list(axes)[task.num_concepts :]:
        axis.set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=9)
    return figure


def classes(task: Task, episode: Episode, before: np.ndarray, after: np.ndarray) -> matplotlib.figure.Figure:
    """Draws support and query of the first lifetime of an episode, one row per class.

    A query image has the number of the class that the network takes it for after the
    lifetime, in red where that is wrong.

    Args:
        task: a `Task` of square images, shown one at a time.
        episode: an `Episode`.
        before: outputs for the query before the lifetime `[lifetimes, query_examples, ways]`.
        after: the same after the lifetime.
    """
    support_x, support_y = (np.asarray(part)[:, 0, 0] for part in (episode.support_x, episode.support_y))
    query_x, query_y, before, after = (
        np.asarray(part)[0] for part in (episode.query_x, episode.query_y, before, after)
    )
    labels = np.argmax(query_y, -1).reshape(task.num_concepts, -1)
    seen = np.argmax(support_y, -1)
    order = np.concatenate([np.flatnonzero(seen == label) for label in labels[:, 0]])
    parts = {"support": support_x[order], "query": query_x}
    size, channels = task.input_shape[0], task.input_shape[-1]
    widths = [len(images) // task.num_concepts for images in parts.values()]
    figure = matplotlib.figure.Figure(
        figsize=(0.5 * sum(widths) + 1, 0.5 * task.num_concepts + 0.8), layout="constrained"
    )
    axes = figure.subplots(1, 2, width_ratios=widths)
    for axis, width, (name, images) in zip(axes, widths, parts.items()):
        tiles = images.reshape(task.num_concepts, width, size, size, channels).swapaxes(1, 2)
        mosaic = tiles.reshape(task.num_concepts * size, width * size, channels)
        if channels not in (1, 3):  # Neither gray nor color.
            mosaic = np.mean(mosaic, axis=-1)
        axis.imshow(mosaic, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axis.set_xticks([])
        middles = (np.arange(task.num_concepts) + 0.5) * size
        axis.set_yticks(middles, [f"class {label + 1}" for label in labels[:, 0]])
        axis.set_title(name, fontsize=9)
    axes[1].set_yticks([])
    guesses = np.argmax(after, -1).reshape(labels.shape)
    for (row, column), guess in np.ndenumerate(guesses):
        color = "tab:blue" if guess == labels[row, column] else "tab:red"
        place = ((column + 0.05) * size, (row + 0.05) * size)
        axes[1].text(*place, guess + 1, color=color, fontsize=8, weight="bold", va="top")
    errors = [float(np.mean(np.argmax(part, -1) != labels.reshape(-1))) for part in (before, after)]
    figure.suptitle(f"errors in the query: {errors[0]:.0%} before the lifetime, {errors[1]:.0%} after", fontsize=9)
    return figure
