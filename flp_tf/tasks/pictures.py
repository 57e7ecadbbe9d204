"""Pictures of an episode: what the network says before and after a lifetime."""

import matplotlib.figure
import numpy as np
import tensorflow as tf

from flp_tf import lifetime
from flp_tf.learners.base import Learner
from flp_tf.meta.objective import query
from flp_tf.tasks.base import Task


def before_and_after(task: Task, learner: Learner, seed: int):
    """Returns one validation episode and the query outputs before and after it."""
    episode = task.sample(seed, tf.constant(0), 1, "validation")
    state = learner.initial_state(1)
    before = query(learner, state, episode)[0].numpy()
    after = query(learner, lifetime.run(learner, episode, state=state).state, episode)[0].numpy()
    return episode, before, after


def sines(task: Task, learner: Learner, seed: int) -> matplotlib.figure.Figure:
    """Draws every sine of an episode with the predictions before and after."""
    episode, before, after = before_and_after(task, learner, seed)
    columns = min(task.num_concepts, 5)
    rows = -(-task.num_concepts // columns)
    figure = matplotlib.figure.Figure(figsize=(2.4 * columns, 2.2 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    parts = (episode.query_x.numpy(), episode.query_y.numpy(), before, after)
    curves = [np.split(part[..., -1].reshape(-1), task.num_concepts) for part in parts]
    # What has diverged leaves the picture, not the others out of sight.
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


def classes(task: Task, learner: Learner, seed: int) -> matplotlib.figure.Figure:
    """Draws the support and the query of an episode, a class a row, and the predictions.

    A query image bears the number of the class that the network takes it for after the
    lifetime, in red where that is wrong.
    """
    episode, before, after = before_and_after(task, learner, seed)
    labels = np.argmax(episode.query_y[0], -1).reshape(task.num_concepts, -1)
    seen = np.argmax(episode.support_y[:, 0, 0], -1)
    order = np.concatenate([np.flatnonzero(seen == label) for label in labels[:, 0]])
    parts = {"support": episode.support_x.numpy()[order, 0, 0], "query": episode.query_x[0].numpy()}
    size, channels = task.input_shape[0], task.input_shape[-1]
    widths = [len(images) // task.num_concepts for images in parts.values()]
    figure = matplotlib.figure.Figure(
        figsize=(0.5 * sum(widths) + 1, 0.5 * task.num_concepts + 0.8), layout="constrained"
    )
    axes = figure.subplots(1, 2, width_ratios=widths)
    for axis, width, (name, images) in zip(axes, widths, parts.items()):
        tiles = images.reshape(task.num_concepts, width, size, size, channels).swapaxes(1, 2)
        mosaic = tiles.reshape(task.num_concepts * size, width * size, channels)
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
