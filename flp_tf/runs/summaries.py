"""The TensorBoard events of a run."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import matplotlib.figure
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api as hparams

from flp_tf.meta.evaluation import Evaluation, lifetimes_at_once
from flp_tf.meta.trainer import Trainer
from flp_tf.runs.config import Config
from flp_tf.runs.results import title
from flp_tf.tasks import Task

# Suffix of a run's own event files.
SUFFIX = ".flp_tf"
# Bytes around each record in a file of records.
FRAME = 16
# Tags of the time spent in outer steps, and of the text that says why a run has no result.
MINUTES, DIVERGED = "outer/minutes", "diverged"


class Scalar(NamedTuple):
    """The logged values of a scalar.

    Attributes:
        lifetimes: of meta-training, in increasing order.
        values: the value at each of them.
    """

    lifetimes: tuple[int, ...]
    values: tuple[float, ...]

    def at(self, lifetimes: Sequence[int]) -> np.ndarray:
        """Returns the values at some lifetimes, with linear interpolation."""
        return np.interp(lifetimes, self.lifetimes, self.values)


class Summaries:
    """Writes a run's TensorBoard events; the step of every event is the number of lifetimes done.

    Points do not depend on where a run was interrupted: the sums behind the means are
    `variables`, which checkpoints store, and `open` removes events after the checkpoint.

    Args:
        folder: the run's folder.
        trainer: the outer loop.
        config: the run's configuration.
        enabled: whether to write at all; only the chief does.
    """

    def __init__(self, folder: Path, trainer: Trainer, config: Config, enabled: bool = True):
        self.folder, self.trainer, self.config, self.enabled = folder, trainer, config, enabled
        self.writer = tf.summary.create_noop_writer()
        self.draws = _overrides_draw(trainer.task)
        self.seconds: list[float] = []
        # For each mean: the sum and the number of finite values since the last point.
        groups, clips = trainer.optimizers.groups, trainer.outer.clip_norm > 0
        names = ["query/loss", "query/error", *(f"gradient_norm_log10/{group}" for group in groups)]
        names += [f"clipped/{group}" for group in groups if clips]
        self._sums = {name: tf.Variable([0.0, 0.0], False, dtype=tf.float64) for name in names}

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """The variables that checkpoints have to store, by name."""
        return {f"summaries/{name}": variable for name, variable in self._sums.items()}

    def open(self, restored: bool, longer: bool = False) -> None:
        """Begins a session of the run.

        Args:
            restored: whether the run goes on from a checkpoint. If not, earlier events of
                this folder are removed.
            longer: whether it is to be longer than before, so that its text changes.
        """
        if not self.enabled:
            return
        purge(self.folder, self.trainer.episodes if restored else -1)
        self.writer = tf.summary.create_file_writer(str(self.folder), filename_suffix=SUFFIX)
        fields = self.config.to_dict().items()
        values = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in fields}
        with self.writer.as_default(step=self.trainer.episodes):
            if not restored or longer:
                self._text(values)
            if not restored:
                self._hyperparameters(values)
        self.flush()

    def _text(self, values: Mapping[str, bool | int | float | str]) -> None:
        """Writes the description of the run: its flags, as a table."""
        rows = [f"| `--{flag}` | {value} |" for flag, value in values.items()]
        tf.summary.text("run", "\n".join([f"**{title(self.config)}**", "", "| flag | value |", "| --- | --- |", *rows]))

    def _hyperparameters(self, values: Mapping[str, bool | int | float | str]) -> None:
        """Writes the flags as hyperparameters, with errors as metrics; only once, as TensorBoard reads the first."""
        metrics = [
            hparams.Metric("validation/error", display_name=f"error on unseen episodes ({self.trainer.task.unit})"),
            hparams.Metric("query/loss", display_name="query loss"),
        ]
        hparams.hparams_config(hparams=[hparams.HParam(name) for name in values], metrics=metrics)
        hparams.hparams(values)

    def record(self, metrics: Mapping[str, float], seconds: float) -> None:
        """Records one outer step's metrics; writes their means every `--log_every` steps and after the last step.

        Norms of meta-gradients differ by orders of magnitude, so the mean is taken over their
        logarithms. The share of steps in which they were clipped is written, too.
        """
        for name, value in self._seen(metrics).items():
            if np.isfinite(value):
                self._sums[name].assign_add([value, 1.0])
        self.seconds.append(seconds)
        if self.trainer.step % self.config.log_every == 0 or self.trainer.step >= self.trainer.steps:
            self.point()

    def point(self) -> None:
        """Writes the means since the last point, and the present weights; to be called if training ends early."""
        with self.writer.as_default(step=self.trainer.episodes):
            for name, sums in self._sums.items():
                total, count = sums.numpy()
                tf.summary.scalar(name, total / count if count else np.nan)
                sums.assign([0.0, 0.0])
            tf.summary.scalar(f"outer/{self.trainer.non_finite.counter}", self.trainer.skipped)
            tf.summary.scalar(MINUTES, self.trainer.seconds / 60)
            # The median excludes compilation.
            if self.seconds:
                speed = self.config.meta_batch / float(np.median(self.seconds))
                tf.summary.scalar("outer/episodes_per_second", speed)
            self._weights()
        self.seconds = []

    def _seen(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Returns the values of one outer step whose means are written, by name."""
        values = {"query/loss": metrics["loss"], "query/error": metrics["error"]}
        clip_norm = self.trainer.outer.clip_norm
        for group in self.trainer.optimizers.groups:
            norm = metrics[f"gradient_norm/{group}"]
            # A norm of 0 has no logarithm, so it does not count.
            values[f"gradient_norm_log10/{group}"] = np.log10(norm) if norm > 0 else np.nan
            if clip_norm:
                values[f"clipped/{group}"] = float(norm > clip_norm) if np.isfinite(norm) else np.nan
        return values

    def _weights(self) -> None:
        for group, weights in self.trainer.optimizers.groups.items():
            norm = tf.linalg.global_norm([weight.value for weight in weights.values()])
            tf.summary.scalar(f"parameter_norm/{group}", norm)
        for layer in self.trainer.learner.network.head:
            if layer.feedback is not None:
                tf.summary.scalar(f"beta/{layer.name}", layer.feedback.strength.value)
            if (bits := layer.bits()) is not None:
                tf.summary.scalar(f"bits/{layer.name}", bits)
        for tag, weight in self._of_parts():
            if len(weight.shape) == 0:
                tf.summary.scalar(tag, weight.value)

    def _of_parts(self) -> Iterator[tuple[str, keras.Variable]]:
        """Yields tag and value of all weights of feedback pathways, rules and initial distributions."""
        for group in ("feedback", "rule", "initial"):
            for path, weight in self.trainer.optimizers.groups.get(group, {}).items():
                yield _tag(group, path), weight

    def evaluation(self, evaluation: Evaluation) -> None:
        """Writes an evaluation on validation episodes, histograms and a picture of the first episode."""
        with self.writer.as_default(step=self.trainer.episodes):
            tf.summary.scalar("validation/error", evaluation.meta_test()["mean"])
            tf.summary.scalar("validation/error_before_lifetime", float(np.mean(evaluation.before)))
            for layer in self.trainer.learner.network.head:
                tf.summary.histogram(f"alpha/{layer.name}", layer.alpha)
            for tag, weight in self._of_parts():
                if len(weight.shape) > 0:
                    tf.summary.histogram(tag, weight.value)
            if self.enabled and self.draws and (picture := self._picture(evaluation)) is not None:
                tf.summary.image("episode", picture)

    def flush(self) -> None:
        """Flushes all events to the file; to be called before a checkpoint is saved."""
        self.writer.flush()

    def diverged(self, reason: str) -> None:
        """Writes, as text, why the run has no result, and flushes all events."""
        with self.writer.as_default(step=self.trainer.episodes):
            tf.summary.text(DIVERGED, reason)
        self.flush()

    def _picture(self, evaluation: Evaluation) -> tf.Tensor | None:
        """Returns the task's picture of the first episode, None if it has none or fails; prints a failure once."""
        task, count = self.trainer.task, lifetimes_at_once(len(evaluation.errors))
        episode = task.compiled_sample(self.config.seed, 0, count, "validation").lifetime(0)
        try:
            figure = task.draw(episode, evaluation.outputs_before[:1], evaluation.outputs[:1])
            return None if figure is None else to_image(figure)
        except Exception as error:  # A failed picture must not end the training.
            self.draws = False
            print(
                f"flp_tf: --task={self.config.task} cannot draw its episodes ({type(error).__name__}: {error}); "
                "training goes on without pictures",
                file=sys.stderr,
            )
            return None


def _overrides_draw(task: Task) -> bool:
    draw = getattr(type(task), "draw", None)
    return draw is not None and draw is not Task.draw


def _tag(group: str, path: str) -> str:
    """Returns a weight's tag, such as `feedback/layer_1/kernel_0` for `network/layers/layer_1/feedback/kernel_0`."""
    words = path.removeprefix("network/").removeprefix("layers/").split("/")
    return "/".join([group, *(word for word in words if word != group)])


def to_image(figure: matplotlib.figure.Figure) -> tf.Tensor:
    """Returns a matplotlib figure, at 100 dots per inch, as `[1, height, width, 4]` uint8."""
    figure.set_dpi(100)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # `savefig` would draw twice, and compress what TensorFlow then decompresses.
    return tf.constant(np.asarray(canvas.buffer_rgba()))[None]


def has_diverged(folder: Path) -> bool:
    """Returns whether the event files of a run say that its meta-training diverged."""
    return DIVERGED in _accumulator(folder).Tags()["tensors"]


def read_scalars(folder: Path) -> dict[str, Scalar]:
    """Returns the scalars in the event files of a run by tag; an empty dict if there are no files."""
    accumulator = _accumulator(folder)
    found = {}
    for tag in accumulator.Tags()["tensors"]:
        values = {event.step: tf.make_ndarray(event.tensor_proto) for event in accumulator.Tensors(tag)}
        if all(value.shape == () and value.dtype.kind == "f" for value in values.values()):
            found[tag] = Scalar(tuple(values), tuple(map(float, values.values())))
    return found


def _accumulator(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), {"tensors": 0})
    accumulator.Reload()
    return accumulator


def purge(folder: Path, last: int) -> None:
    """Removes the events after a step from a run's own event files.

    Args:
        folder: the folder; its files named `...SUFFIX` are cut, other files stay.
        last: the last step to keep; a negative number keeps none.
    """
    for path in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
        if path.is_symlink() or not path.is_file():
            continue
        kept = _bytes_until(path, last)
        if not kept:
            path.unlink()
        elif kept < path.stat().st_size:
            os.truncate(path, kept)


def _bytes_until(path: Path, last: int) -> int:
    """Returns where in an event file the first event after a step, or the first incomplete event, begins."""
    offset = 0
    try:
        for record in tf.data.TFRecordDataset(str(path), buffer_size=1 << 18):
            if tf.compat.v1.Event.FromString(content := record.numpy()).step > last:
                break
            offset += len(content) + FRAME
    except tf.errors.DataLossError:  # A killed process left an incomplete event.
        pass
    return offset
