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
    curves = [np.split(part[..., -1].reshape(-1), task.num_concepts) for part in (episode.query_x.numpy(), episode.query_y.numpy(), before, after)]
    for i, (axis, x, y, first, last) in enumerate(zip(axes, *curves)):
        order = np.argsort(x)
        axis.plot(x[order], y[order], color="0.6", linewidth=3, label="target")
        axis.plot(x[order], first[order], color="tab:orange", linestyle=":", label="before the lifetime")
        axis.plot(x[order], last[order], color="tab:blue", label="after the lifetime")
        axis.set_title(f"sine {i + 1}", fontsize=9)
        axis.set_xlabel("x", fontsize=8)
        axis.set_ylabel("y", fontsize=8)
        axis.label_outer()
    for axis in list(axes)[task.num_concepts :]:
        axis.set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=9)
    return figure
