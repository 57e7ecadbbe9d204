"""Meta-training: the outer loop (paper, section 4.1)."""

import contextlib
import functools
import math
import time
from collections.abc import Callable

import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.learners.base import Learner
from flp_tf.meta.averaging import Average
from flp_tf.meta.devices import compiled_estimate, freed_with_its_graphs
from flp_tf.meta.estimators import Estimator
from flp_tf.meta.lengths import Lengths
from flp_tf.meta.optimizers import Optimizers
from flp_tf.meta.options import NON_FINITE, Engine, OuterOptions
from flp_tf.meta.schedules import Constant, Schedule
from flp_tf.tasks.base import Task
from flp_tf.tasks.checks import check_size

# A query loss above this is divergence, even if it is finite: no sine or class has such a loss.
MOST_LOSS = 1e6
# The estimator draws from seeds of its own, not from those of the episodes.
ESTIMATOR_SEEDS = 0x5EED


class Diverged(RuntimeError):
    """Too many meta-gradients, or losses, in a row that are not finite."""


class Trainer:
    """The outer loop.

    An outer step draws a meta-batch of lifetimes, estimates the gradient of their query
    loss and applies it. Some estimators give several estimates per meta-batch, one after the other.
    An estimate that is not finite, or has a loss above `MOST_LOSS`, is skipped. With
    `--non_finite=zero` it is applied, with zero for the entries of its gradient that are not finite.
    Outer steps with such an estimate are counted in either case.

    Args:
        learner: the learner, with its initial weights.
        task: its task.
        estimator: gives the meta-gradient.
        outer: options of the outer loop.
        engine: options of the machine.
        seed: of all episodes, and of what the estimator draws.
        schedule: the course of the rates; constant by default.
        strategy: how the meta-batch is split over devices; one device by default. Trainer
            and learner have to be made in its scope.

    Attributes:
        steps: outer steps of the whole run.
        optimizers: the outer optimizers.
        average: the running mean of the weights, None without `--average`.
        apply_seconds: time that the optimizers took in the last outer step.
        seconds: time spent in outer steps over all sessions of the run; the caller counts it.

    Raises:
        InputError: if the meta-batch cannot be divided evenly over the devices, a length of lifetimes
            does not fit the task, a meta-batch is too large to be drawn, no optimizer has weight decay
            although it is given, or no weights have rates that the schedule changes.
    """

    def __init__(
        self,
        learner: Learner,
        task: Task,
        estimator: Estimator,
        outer: OuterOptions,
        engine: Engine,
        *,
        seed: int,
        schedule: Schedule | None = None,
        strategy: tf.distribute.Strategy | None = None,
    ):
        self.learner, self.task, self.estimator = learner, task, estimator
        self.outer, self.engine, self.seed = outer, engine, seed
        self.non_finite = NON_FINITE[outer.non_finite]
        self.strategy = strategy or tf.distribute.get_strategy()
        replicas = self.strategy.num_replicas_in_sync
        if outer.meta_batch % replicas:
            raise InputError(
                f"--meta_batch={outer.meta_batch} does not divide over {replicas} devices; "
                f"legal values are multiples of {replicas}"
            )
        self.lifetimes_per_replica = outer.meta_batch // replicas
        self.steps = math.ceil(outer.episodes / outer.meta_batch)
        self.lengths = Lengths(task, outer, self.steps, seed)
        for of_length in self.lengths.tasks.values():
            check_size(of_length, self.lifetimes_per_replica)
        updates = self._updates_before(self.steps * outer.meta_batch)
        schedule = (schedule or Constant()).recounted(self._updates_before)
        self.optimizers = Optimizers(learner.groups(), outer, updates, schedule)
        self.average = Average(learner.trainable, outer.average) if outer.average else None
        self.apply_seconds = 0.0
        estimator.build(learner, task, self.lifetimes_per_replica)
        self.seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self._counters = {
            name: tf.Variable(0, dtype=tf.int64, trainable=False) for name in ("steps", "skipped", "skipped_in_a_row")
        }
        # Compiled estimates by length of lifetime.
        self._compiled: dict[int, Callable] = {}
        self._apply = tf.function(functools.partial(self._apply_on_replicas), autograph=False)

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """Everything a checkpoint holds, by name: `learner/PATH`, `outer/...`, `optimizer/...`, `estimator/...`.

        `learner/PATH` are the weights to evaluate. With `--average` these are the means, and the weights
        from which training continues are `iterate/PATH`.
        """
        weights = {f"learner/{path}": weight.value for path, weight in self.learner.variables.items()}
        if self.average:
            weights |= {f"iterate/{path}": weight.value for path, weight in self.average.weights.items()}
            weights |= {f"learner/{path}": mean for path, mean in self.average.means.items()}
            weights["outer/averaged"] = self.average.count
        outer = {f"outer/{name}": counter for name, counter in self._counters.items()}
        optimizers = {f"optimizer/{name}": variable for name, variable in self.optimizers.variables.items()}
        estimator = {f"estimator/{name}": variable for name, variable in self.estimator.variables.items()}
        return weights | outer | {"outer/seconds": self.seconds} | optimizers | estimator

    @property
    def step(self) -> int:
        """Outer steps done."""
        return self._count("steps")

    @property
    def skipped(self) -> int:
        """Outer steps with an estimate that was not finite, or had too large a loss.

        They were skipped, unless `--non_finite=zero`.
        """
        return self._count("skipped")

    @property
    def lost_in_a_row(self) -> int:
        """The latest outer steps in a row that count for `--max_skipped`."""
        return self._count("skipped_in_a_row")

    @property
    def episodes(self) -> int:
        """Lifetimes done."""
        return self.step * self.outer.meta_batch

    @property
    def inner_steps(self) -> int:
        """Inner steps done, of all lifetimes: a cost that does not depend on the machine."""
        return self.outer.meta_batch * self.lengths.inner_steps(self.step)

    @property
    def all_inner_steps(self) -> int:
        """Inner steps of the whole run."""
        return self.outer.meta_batch * self.lengths.inner_steps(self.steps)

    def ahead(self, step: int) -> list[tuple[int, int]]:
        """Returns `(outer steps, inner steps of a lifetime)` by length from an outer step on, the next one first."""
        return self.lengths.ahead(step)

    def _updates_before(self, lifetimes: int) -> int:
        """Returns the updates of the weights in all outer steps that begin before so many lifetimes are done."""
        steps = math.ceil(lifetimes / self.outer.meta_batch)
        return sum(count * self.estimator.updates(self.lengths.tasks[n]) for count, n in self.lengths.before(steps))

    def averaged(self) -> contextlib.AbstractContextManager:
        """Returns a context in which the learner has the weights to evaluate: with `--average`, their mean."""
        return self.average.in_use() if self.average else contextlib.nullcontext()

    def end(self) -> None:
        """Gives the learner the weights to evaluate; after this, training cannot continue."""
        if self.average:
            self.average.use()

    def outer_step(self) -> dict[str, float]:
        """Takes one outer step.

        Returns:
            `loss`, `error` and, by group, `gradient_norm/GROUP`, as means over the updates; and
            `skipped`, 1 if one of the estimates was not finite or had too large a loss.

        Raises:
            Diverged: after `--max_skipped` outer steps in a row in which an update was skipped
                or, with `--non_finite=zero`, a loss was not finite or too large.
        """
        self._check_lost()
        step, self.apply_seconds = self.step, 0.0
        estimate, first = self._estimate(step), tf.constant(step * self.outer.meta_batch)
        updates = [self._update(estimate, first) for _ in range(self.estimator.updates(self.lengths.task(step)))]
        metrics = {name: sum(update[name] for update in updates) / len(updates) for name in updates[0]}
        metrics["skipped"] = float(metrics["skipped"] > 0)
        # If training continues with the finite part of a gradient, only the loss can show divergence.
        lost = not _plausible(metrics["loss"]) if self.non_finite.applies else metrics["skipped"]
        self._counters["skipped"].assign_add(int(metrics["skipped"]))
        self._counters["skipped_in_a_row"].assign(self.lost_in_a_row + 1 if lost else 0)
        self._counters["steps"].assign_add(1)
        self._check_lost()
        return metrics

    def _check_lost(self) -> None:
        """Raises Diverged after `--max_skipped` lost steps in a row, including those that a checkpoint counts."""
        if self.lost_in_a_row >= self.outer.max_skipped:
            raise Diverged(
                f"{self.lost_in_a_row} {self.non_finite.lost} in a row were not finite, or of a loss above "
                f"{MOST_LOSS:g}; the last was at lifetime {self.episodes}"
            )

    def _update(self, estimate: Callable, first: tf.Tensor) -> dict[str, float]:
        """Applies one estimate to the weights, unless it has to be skipped; returns its metrics.

        Args:
            estimate: from `_estimate`.
            first: number of the meta-batch's first lifetime.
        """
        metrics, gradients = estimate(first)
        metrics = {name: float(value) for name, value in metrics.items()}
        sound = all(math.isfinite(value) for value in metrics.values()) and _plausible(metrics["loss"])
        began = time.monotonic()
        if sound or self.non_finite.applies:
            self._apply(gradients)
        self.apply_seconds += time.monotonic() - began
        return metrics | {"skipped": float(not sound)}

    def _count(self, name: str) -> int:
        return int(self._counters[name].numpy())

    def advice(self) -> str:
        """Returns what to change if a run diverges, for messages."""
        # The plasticity acts through sums over whole lifetimes, so its rate is the most likely cause.
        groups = sorted(self.optimizers.groups, key=lambda group: group != "plasticity")
        rates = ", then ".join(f"--{group}_rate={self.outer.rate(group):g}" for group in groups)
        clip = self.outer.clip_norm
        return f"lower {rates}, or {f'lower --clip_norm={clip:g}' if clip else 'set --clip_norm=1'}"

    def _estimate(self, step: int) -> Callable:
        """Returns the compiled estimate of the lifetimes at `step`.

        Lifetimes of the same length share it. It is freed when no later lifetimes need it.
        """
        task = self.lengths.task(step)
        needed = {task.steps, *(length for _, length in self.ahead(step))}
        self._compiled = {steps: compiled for steps, compiled in self._compiled.items() if steps in needed}
        if task.steps not in self._compiled:
            self._compiled[task.steps] = self._compile(task)
        return self._compiled[task.steps]

    def _compile(self, task: Task) -> Callable:
        """Returns a function from the number of a meta-batch's first lifetime to metrics and gradients."""
        count = self.lifetimes_per_replica
        estimate = compiled_estimate(self.estimator, self.learner, task, self.engine.jit_compile)

        def on_replica(index):
            context = tf.distribute.get_replica_context()
            first = index + count * context.replica_id_in_sync_group
            seed = tf.random.fold_in(tf.stack([self.seed, first]), ESTIMATOR_SEEDS, alg="philox")
            # Episodes are drawn outside XLA, so that they do not depend on how lifetimes are computed.
            found = estimate(task.sample(self.seed, first, count, "train"), seed)
            loss, error, gradients = context.all_reduce(tf.distribute.ReduceOp.MEAN, list(found))
            norms = {f"gradient_norm/{name}": norm for name, norm in self.optimizers.norms(gradients).items()}
            return {"loss": loss, "error": error, **norms}, gradients

        # A partial function is a new one every time; see `compiled_estimate`.
        return freed_with_its_graphs(functools.partial(self._on_replicas, on_replica))

    def _on_replicas(self, on_replica: Callable, index: tf.Tensor):
        """Runs a function that returns metrics and gradients on every replica; returns the metrics of one."""
        metrics, gradients = self.strategy.run(on_replica, (index,))
        return {name: self._local(value) for name, value in metrics.items()}, gradients

    def _local(self, value):
        """Returns one replica's copy of a value that is the same on all."""
        return self.strategy.experimental_local_results(value)[0]

    def _apply_on_replicas(self, gradients) -> None:
        self.strategy.run(self._apply_on_replica, (gradients,))

    def _apply_on_replica(self, gradients) -> None:
        if self.non_finite.applies:
            gradients = tf.nest.map_structure(_finite_part, gradients)
        self.optimizers.apply(gradients)
        if self.average:
            self.average.update()


def _plausible(loss: float) -> bool:
    return math.isfinite(loss) and loss <= MOST_LOSS


def _finite_part(gradient: tf.Tensor) -> tf.Tensor:
    """Returns a gradient with zero for its entries that are not finite."""
    return tf.where(tf.math.is_finite(gradient), gradient, tf.zeros_like(gradient))
