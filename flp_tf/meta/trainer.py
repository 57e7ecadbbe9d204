"""Meta-training: Adam through whole lifetimes (paper, section 4)."""

import contextlib
import math
import time
from collections.abc import Iterator

import tensorflow as tf
from tqdm import tqdm

from flp_tf.config import Config
from flp_tf.learners.base import Learner
from flp_tf.meta.checkpoints import Checkpoints
from flp_tf.meta.evaluation import Evaluator
from flp_tf.meta.interruption import Interruption
from flp_tf.meta.objective import compiled_meta_gradient
from flp_tf.meta.optimizer import GroupedAdam
from flp_tf.meta.run_directory import RunDirectory
from flp_tf.meta.summaries import Summaries
from flp_tf.tasks import TASKS, Task

VALIDATION_EPISODES = 10
# A query loss above this is divergence, finite or not: no sine and no class costs it.
MOST_LOSS = 1e6
COUNTERS = 3


class Diverged(RuntimeError):
    """Too many non-finite meta-gradients in a row."""


class Interrupted(Exception):
    """A signal ended meta-training early; a checkpoint was saved.

    Attributes:
        signal: number of the signal.
        episodes: lifetimes done.
    """

    def __init__(self, signal: int, episodes: int):
        super().__init__(signal, episodes)
        self.signal, self.episodes = signal, episodes


class Trainer:
    """The outer loop.

    An outer step draws a meta-batch of lifetimes, back-propagates their query loss
    and applies Adam. A meta-gradient that is not finite, or of a loss beyond `MOST_LOSS`,
    is skipped and counted.

    Args:
        config: resolved configuration.
        task: its task.
        learner: its learner, with fresh weights.
        strategy: how the meta-batch is split over devices; one device by default.

    Raises:
        ValueError: if the meta-batch does not divide over the devices, or the
            curriculum does not fit the task.
    """

    def __init__(self, config: Config, task: Task, learner: Learner, strategy: tf.distribute.Strategy | None = None):
        self.config, self.task, self.learner = config, task, learner
        self.strategy = strategy or tf.distribute.get_strategy()
        replicas = self.strategy.num_replicas_in_sync
        if config.meta_batch % replicas:
            raise ValueError(
                f"--meta_batch={config.meta_batch} does not divide over {replicas} devices; "
                f"legal values are multiples of {replicas}"
            )
        self.lifetimes_per_replica = config.meta_batch // replicas
        self.steps = math.ceil(config.episodes / config.meta_batch)
        self.phases = [
            (start // config.meta_batch, task if phase == config else TASKS[phase.task].from_config(phase))
            for start, phase in config.phases()
        ]
        self.optimizer = GroupedAdam(learner, config, self.steps)
        # Outer steps done, meta-gradients skipped, and skipped in a row.
        self.counters = [tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(COUNTERS)]
        # Time spent in outer steps, over all sessions of the run.
        self.seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self._compiled = {}
        self._apply = tf.function(self._apply_on_replicas, autograph=False)

    @property
    def variables(self) -> list[tf.Variable]:
        """Everything a checkpoint holds: meta-parameters first, then the outer loop's."""
        weights = [weight.value for weight in self.learner.network.weights]
        return [*weights, *self.counters, self.seconds, *self.optimizer.variables]

    @property
    def step(self) -> int:
        """Outer steps done."""
        return int(self.counters[0].numpy())

    @property
    def episodes(self) -> int:
        """Lifetimes done."""
        return self.step * self.config.meta_batch

    def outer_step(self) -> dict[str, float]:
        """Takes one outer step.

        Returns:
            `loss`, `error`, `skipped` and, by group, `gradient_norm/GROUP`.

        Raises:
            Diverged: after `--max_skipped` skipped steps in a row.
        """
        step = self.step
        metrics, gradients = self._meta_gradient_function(step)(tf.constant(step * self.config.meta_batch))
        metrics = {name: float(value) for name, value in metrics.items()}
        sound = all(math.isfinite(value) for value in metrics.values()) and metrics["loss"] <= MOST_LOSS
        metrics["skipped"] = float(not sound)
        if metrics["skipped"]:
            self.counters[1].assign_add(1)
            self.counters[2].assign_add(1)
        else:
            self._apply(gradients)
            self.counters[2].assign(0)
        self.counters[0].assign_add(1)
        if int(self.counters[2].numpy()) >= self.config.max_skipped:
            raise Diverged(self._advice())
        return metrics

    def _advice(self) -> str:
        """Returns what to tell a user whose run diverges, in one line."""
        config = self.config
        rate = "inner_rate" if config.method in ("gradient", "oml") else "plasticity_scale"
        return (
            f"{config.max_skipped} meta-gradients in a row were not finite, or of a loss above {MOST_LOSS:g}; the last "
            f"was at lifetime {self.episodes}. Lower --plasticity_rate={config.plasticity_rate:g} or "
            f"--{rate}={getattr(config, rate):g} first, then --slow_rate={config.slow_rate:g}, or set --clip_norm=1"
        )

    def _meta_gradient_function(self, step: int):
        """Returns the compiled meta-gradient of the curriculum's phase at `step`."""
        task = [task for start, task in self.phases if start <= step][-1]
        if task.steps not in self._compiled:
            self._compiled[task.steps] = self._compile(task)
        return self._compiled[task.steps]

    def _compile(self, task: Task):
        config, count = self.config, self.lifetimes_per_replica
        lifetimes = compiled_meta_gradient(self.learner, task, config.segment_length, config.jit_compile)

        def on_replica(index):
            context = tf.distribute.get_replica_context()
            first = index + count * context.replica_id_in_sync_group
            # Episodes are drawn outside XLA: the same ones however lifetimes run.
            loss, error, gradients = lifetimes(task.sample(config.seed, first, count, "train"))
            loss, error, gradients = context.all_reduce(tf.distribute.ReduceOp.MEAN, [loss, error, gradients])
            norms = {f"gradient_norm/{name}": norm for name, norm in self.optimizer.norms(gradients).items()}
            return {"loss": loss, "error": error, **norms}, gradients

        @tf.function(autograph=False)
        def on_replicas(index):
            metrics, gradients = self.strategy.run(on_replica, (index,))
            return {name: self._local(value) for name, value in metrics.items()}, gradients

        return on_replicas

    def _local(self, value):
        """Returns one replica's copy of a value that all share."""
        return self.strategy.experimental_local_results(value)[0]

    def _apply_on_replicas(self, gradients) -> None:
        self.strategy.run(self.optimizer.apply, (gradients,))


def train(trainer: Trainer, directory: RunDirectory, chief: bool = True) -> None:
    """Meta-trains to the end, from the newest checkpoint in the directory if any.

    Args:
        trainer: the outer loop.
        directory: the run's folder, claimed.
        chief: whether this process writes checkpoints and events.

    Raises:
        Interrupted: after SIGINT or SIGTERM, with a checkpoint saved.
        Diverged: see `Trainer.outer_step`; a checkpoint is left as it was.
    """
    config = trainer.config
    checkpoints = Checkpoints(directory.checkpoints, trainer.variables)
    if checkpoints.restore() is not None:
        print(f"Continuing {directory.path} after {trainer.episodes} lifetimes.", flush=True)
    summaries = Summaries(directory, trainer, enabled=chief)
    evaluator = Evaluator(trainer.learner, trainer.task, config.jit_compile)
    saved = time.monotonic()
    with Interruption() as interruption, _progress(trainer, chief) as bar:
        while trainer.step < trainer.steps:
            began = time.monotonic()
            metrics = trainer.outer_step()
            seconds = time.monotonic() - began
            trainer.seconds.assign_add(seconds)
            summaries.record(metrics, seconds)
            _show(bar, metrics, config.meta_batch)
            last = trainer.step == trainer.steps
            if last or trainer.episodes % config.eval_every < config.meta_batch:
                summaries.evaluation(evaluator(config.seed, VALIDATION_EPISODES, "validation"), bar)
            if chief and (last or interruption.signal or time.monotonic() - saved > 60 * config.checkpoint_minutes):
                checkpoints.save(trainer.step)
                saved = time.monotonic()
            if interruption.signal:
                raise Interrupted(interruption.signal, trainer.episodes)


def progress(weights: Checkpoints, step: int, config: Config) -> dict[str, float]:
    """Returns how far a run had come at a checkpoint: `episodes` and, where it was kept, `minutes`.

    Args:
        weights: the run's checkpoints, of which the network's weights are wanted.
        step: the outer step of the checkpoint.
        config: of the run.
    """
    # See `Trainer.variables`; networks that ship have their weights alone.
    seconds = weights.value(step, len(weights.variables) + COUNTERS)
    minutes = {} if seconds is None else {"minutes": float(seconds) / 60}
    return {"episodes": min(step * config.meta_batch, config.episodes)} | minutes


@contextlib.contextmanager
def _progress(trainer: Trainer, chief: bool) -> Iterator[tqdm]:
    label = f"{trainer.config.task} {trainer.config.method}({trainer.config.num_plastic_layers})"
    total = trainer.steps * trainer.config.meta_batch
    with tqdm(
        total=total, initial=trainer.episodes, desc=label, unit="lifetime", disable=not chief, mininterval=1
    ) as bar:
        bar.running_loss = None
        yield bar


def _show(bar: tqdm, metrics: dict[str, float], lifetimes: int) -> None:
    """Moves the bar on, with a running mean of the query loss; a skipped one would hide the others."""
    if not metrics["skipped"]:
        before = bar.running_loss if bar.running_loss is not None else metrics["loss"]
        bar.running_loss = 0.95 * before + 0.05 * metrics["loss"]
        bar.set_postfix(query_loss=f"{bar.running_loss:.4g}", refresh=False)
    bar.update(lifetimes)
