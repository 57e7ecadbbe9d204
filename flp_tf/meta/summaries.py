"""What a run shows in TensorBoard."""

import io

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams
from tqdm import tqdm

from flp_tf.meta.evaluation import Evaluation
from flp_tf.meta.run_directory import RunDirectory


class Summaries:
    """Writes a run's TensorBoard events; the step of every event is lifetimes done.

    Args:
        directory: the run's folder.
        trainer: the outer loop that it watches.
        enabled: whether to write at all (the chief does).
    """

    def __init__(self, directory: RunDirectory, trainer, enabled: bool = True):
        self.trainer = trainer
        self.writer = tf.summary.create_file_writer(str(directory.path)) if enabled else tf.summary.create_noop_writer()
        self.enabled = enabled
        self.pending: list[dict[str, float]] = []
        self.seconds: list[float] = []
        if enabled and trainer.step == 0:
            fields = trainer.config.to_dict().items()
            values = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in fields}
            with self.writer.as_default(step=0):
                hparams.hparams(values)

    def record(self, metrics: dict[str, float], seconds: float) -> None:
        """Takes one outer step's metrics; writes their means every `--log_every` steps."""
        self.pending.append(metrics)
        self.seconds.append(seconds)
        config = self.trainer.config
        if len(self.pending) < config.log_every and self.trainer.step < self.trainer.steps:
            return
        with self.writer.as_default(step=self.trainer.episodes):
            for name in ("loss", "error"):
                tf.summary.scalar(f"query/{name}", _finite_mean(self.pending, name))
            for name in self.pending[0]:
                if name.startswith("gradient_norm/"):
                    tf.summary.scalar(name, _finite_mean(self.pending, name))
            tf.summary.scalar("outer/skipped_steps", int(self.trainer.counters[1].numpy()))
            # The median leaves compilation out.
            tf.summary.scalar("outer/episodes_per_second", config.meta_batch / float(np.median(self.seconds)))
            self._parameters()
        self.pending, self.seconds = [], []

    def _parameters(self) -> None:
        for name, weights in self.trainer.optimizer.groups.items():
            tf.summary.scalar(f"parameter_norm/{name}", tf.linalg.global_norm([weight.value for weight in weights]))
        for layer in self.trainer.learner.network.head:
            if layer.feedback is not None:
                tf.summary.scalar(f"beta/{layer.name}", layer.feedback.strength.value)

    def evaluation(self, evaluation: Evaluation, bar: tqdm) -> None:
        """Writes an evaluation on unseen episodes, histograms and a picture of one."""
        mean = evaluation.meta_test()["mean"]
        unit = self.trainer.task.unit
        if self.enabled:
            bar.write(f"lifetime {self.trainer.episodes}: error on unseen episodes {mean:.4g} {unit}")
        with self.writer.as_default(step=self.trainer.episodes):
            tf.summary.scalar("meta_test/error", mean)
            tf.summary.scalar("meta_test/error_before_lifetime", float(np.mean(evaluation.before)))
            for layer in self.trainer.learner.network.head:
                tf.summary.histogram(f"alpha/{layer.name}", layer.alpha)
                for weight in layer.feedback.pathway_weights if layer.feedback else []:
                    tf.summary.histogram(f"feedback/{layer.name}/{weight.name}", weight.value)
            if self.enabled:
                figure = self.trainer.task.picture(self.trainer.learner, self.trainer.config.seed)
                tf.summary.image("episode", to_image(figure))
        self.writer.flush()


def to_image(figure) -> tf.Tensor:
    """Returns a matplotlib figure as `[1, height, width, 4]` uint8."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100)
    return tf.image.decode_png(png.getvalue(), channels=4)[None]


def _finite_mean(rows: list[dict[str, float]], name: str) -> float:
    values = [row[name] for row in rows if np.isfinite(row[name])]
    return float(np.mean(values)) if values else float("nan")
