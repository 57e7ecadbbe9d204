"""Meta-training from the first lifetime to `result.json`."""

import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from flp_tf import learners, lifetime
from flp_tf.errors import InputError
from flp_tf.export import export
from flp_tf.learners.base import Learner
from flp_tf.meta import distribution
from flp_tf.meta.evaluation import Evaluator
from flp_tf.meta.trainer import Diverged, Trainer
from flp_tf.runs import results
from flp_tf.runs.checkpoints import Checkpoints
from flp_tf.runs.config import Config
from flp_tf.runs.directory import RunDirectory, machine
from flp_tf.runs.interruption import Interrupted, Interruption, Stopped
from flp_tf.runs.labels import label
from flp_tf.runs.progress import Display
from flp_tf.runs.run import Run, start_from
from flp_tf.runs.summaries import Summaries
from flp_tf.tasks import Task

# Number of lifetimes of an evaluation during meta-training.
VALIDATION_EPISODES = 10
# Options that set the size of inner steps before the first outer step.
FIRST_INNER_STEPS = ("plasticity_init", "output_plasticity_init", "inner_rate", "perturbation")


class Point(NamedTuple):
    """The progress of a run at an evaluation.

    Attributes:
        episodes: lifetimes done.
        inner_steps: of all these lifetimes; a cost that does not depend on the machine.
        seconds: of outer steps, over all sessions of the run.
        error: mean over `VALIDATION_EPISODES` validation lifetimes.
    """

    episodes: int
    inner_steps: int
    seconds: float
    error: float


def meta_train(
    config: Config,
    logdir: str | os.PathLike[str],
    *,
    progress: bool = True,
    on_evaluation: Callable[[Point], bool | None] | None = None,
) -> Run:
    """Meta-trains a network, or continues an interrupted run, up to the final meta-test.

    Example:
        >>> import flp_tf
        >>> run = flp_tf.meta_train(flp_tf.configure(task="sine", episodes=100), "runs/short")
        >>> run.result()["meta_test"]["mean"]

    In the main thread SIGINT (Ctrl-C), SIGTERM, SIGHUP and SIGUSR1 end meta-training after
    the present outer step and save a checkpoint; the same call then continues. In other threads
    signals are not handled.

    Args:
        config: from `flp_tf.configure`.
        logdir: the run directory; see `flp_tf.runs.directory` for its content.
        progress: whether to print a progress bar, evaluations and the final table.
        on_evaluation: called at every evaluation. If it returns True before the last
            outer step, meta-training ends there; the same call then continues. With
            `--distribution` it has to return the same in all processes.

    Returns:
        The finished run.

    Raises:
        InputError: if the folder holds another run, is in use or cannot be written, or if
            options contradict each other.
        ContractError: if task or learner break their contract.
        Interrupted: after a signal, with a checkpoint saved.
        Stopped: if `on_evaluation` returned True, with a checkpoint saved.
        Diverged: if meta-gradients or the final errors are not finite.
    """
    directory = RunDirectory(logdir)
    strategy = distribution.strategy(config.distribution)
    chief = distribution.is_chief(strategy)
    task = config.make_task()
    results.test_task(config, task)
    with strategy.scope():
        learner = learners.build(config, task)
        if config.init_from:
            start_from(learner, config.init_from)
        trainer = make_trainer(config, task, learner, strategy)
    lifetime.check_contracts(learner, task)
    run = Run(directory.path, config, task, learner)
    # One for all evaluations, so that the meta-test needs no compilation if its lifetimes have the same length.
    evaluator = Evaluator(learner, task, config.jit_compile)
    with directory.claimed(config) if chief else contextlib.nullcontext():
        train(trainer, evaluator, directory, config, chief=chief, progress=progress, on_evaluation=on_evaluation)
        if chief:
            finish(run, trainer, evaluator, progress=progress)
    return run


def make_trainer(
    config: Config, task: Task, learner: Learner, strategy: tf.distribute.Strategy | None = None
) -> Trainer:
    """Returns the outer loop of a configuration.

    Args:
        config: estimator, schedule, and options of the outer loop and the engine.
        task: the task.
        learner: the learner, made in the scope of the strategy.
        strategy: how the meta-batch is split over devices; one device by default.

    Raises:
        InputError: see `Trainer`.
    """
    return Trainer(
        learner,
        task,
        config.choice("estimator")(),
        config.options("outer"),
        config.options("engine"),
        seed=config.seed,
        schedule=config.choice("schedule")(),
        strategy=strategy,
    )


def train(
    trainer: Trainer,
    evaluator: Evaluator,
    directory: RunDirectory,
    config: Config,
    *,
    chief: bool = True,
    progress: bool = True,
    on_evaluation: Callable[[Point], bool | None] | None = None,
) -> None:
    """Meta-trains to the end, from the newest checkpoint in the directory if any.

    The learner is left with the weights to evaluate.

    Args:
        trainer: the outer loop.
        evaluator: of its learner and task.
        directory: the run's folder, claimed.
        config: options of the run.
        chief: whether this process writes checkpoints and events, and prints.
        progress: whether the chief prints.
        on_evaluation: see `meta_train`.

    Raises:
        InputError: if a continued run has other data.
        Interrupted: after a signal, with a checkpoint saved.
        Stopped: if `on_evaluation` returned True, with a checkpoint saved.
        Diverged: see `Trainer.outer_step`; checkpoints stay unchanged, and there is at least one.
    """
    progress = progress and chief
    summaries = Summaries(directory.path, trainer, config, enabled=chief)
    checkpoints = Checkpoints(directory.checkpoints, trainer.variables | summaries.variables)
    restored = checkpoints.restore() is not None
    if chief and restored:
        directory.check_data(config, trainer.task.fingerprint)
    longer = chief and restored and directory.extended(config)
    if restored and progress:
        print(f"Continuing {directory.path} after {trainer.episodes} lifetimes.", flush=True)
        if longer:
            print(f"It goes on to {config.episodes} lifetimes; {course(config)}.", flush=True)
    summaries.open(restored, longer)
    if chief:
        directory.record(config, restored, trainer.task.fingerprint)
    saved = time.monotonic()
    with Interruption() as interruption, Display(trainer, config, progress) as display:
        while trainer.step < trainer.steps:
            began = time.monotonic()
            metrics = _outer_step(trainer, summaries, checkpoints if chief else None, config)
            seconds = time.monotonic() - began
            trainer.seconds.assign_add(seconds)
            summaries.record(metrics, seconds)
            display.step(metrics, seconds)
            last, stop = trainer.step == trainer.steps, False
            if last or trainer.episodes % config.eval_every < config.meta_batch:
                with trainer.averaged():
                    evaluation = evaluator(config.seed, VALIDATION_EPISODES, "validation")
                    summaries.evaluation(evaluation)
                error = evaluation.meta_test()["mean"]
                display.say(f"lifetime {trainer.episodes}: error on unseen episodes {error:.4g} {trainer.task.unit}")
                summaries.flush()
                point = Point(trainer.episodes, trainer.inner_steps, float(trainer.seconds.numpy()), error)
                stop = on_evaluation is not None and on_evaluation(point) is True and not last
            # Read only once: a signal between saving and leaving is handled after the next outer step.
            signal = interruption.signal
            if chief and (last or stop or signal or time.monotonic() - saved > 60 * config.checkpoint_minutes):
                # Events first: those after the newest checkpoint are removed when a run continues.
                summaries.flush()
                checkpoints.save(trainer.step)
                saved = time.monotonic()
            if signal:
                raise Interrupted(signal, trainer.episodes)
            if stop:
                raise Stopped(trainer.episodes)
    trainer.end()
    if trainer.lost_in_a_row >= trainer.steps:
        error = _advised(trainer, f"none of the {trainer.steps} meta-gradients was finite; nothing was learned", config)
        summaries.diverged(str(error))
        raise error


def course(config: Config) -> str:
    """Returns what changes if a run is continued to more lifetimes, because its course spans all of them."""
    of_all = {f"rates (--schedule={config.schedule})": config.choice("schedule").component.spans_run}
    of_all[f"lengths (--curriculum={config.curriculum})"] = any(
        part.endswith("%") for part in config.curriculum.split(",")
    )
    if changed := [name for name, changes in of_all.items() if changes]:
        return f"{' and '.join(changed)} are from here on those of a run of as many"
    return "rates and lengths stay as they are"


def _outer_step(
    trainer: Trainer, summaries: Summaries, checkpoints: Checkpoints | None, config: Config
) -> dict[str, float]:
    """Takes an outer step; a divergence is written to TensorBoard, and its message says how to proceed."""
    try:
        return trainer.outer_step()
    except Diverged as diverged:
        error = _advised(trainer, str(diverged), config)
        summaries.point()
        summaries.diverged(str(error))
        # A run without a checkpoint cannot be loaded, so it would not count as a failed training.
        if checkpoints and not checkpoints.steps:
            checkpoints.save(trainer.step)
        raise error from None


def _advised(trainer: Trainer, what: str, config: Config) -> Diverged:
    """Returns the error that says what happened, and which flags to change."""
    advice = trainer.advice()
    begun = [f"--{name}={size:g}" for name in FIRST_INNER_STEPS if (size := getattr(config, name, 0))]
    if trainer.lost_in_a_row >= trainer.step and begun:
        # No rate of the outer loop has had an effect yet.
        advice = f"it was so from the first lifetime on: lower {' and '.join(begun)}"
    return Diverged(f"{what}; {advice}, and name another --logdir, because this one keeps the run as it is")


def finish(run: Run, trainer: Trainer, evaluator: Evaluator, *, progress: bool = True) -> None:
    """Ends a run: meta-test, SavedModel, and at last `result.json`.

    If a component of the user makes an export impossible, the run still has a result. Its field
    `not_exported` has the reason.

    Args:
        run: the run, its folder claimed.
        trainer: its outer loop, at the end.
        evaluator: of the run's learner and task.
        progress: whether to print the table.

    Raises:
        Diverged: if the errors are not finite, which `result.json` records.
    """
    directory = RunDirectory(run.path)
    result = results.meta_test(run.config, evaluator)
    result |= {"episodes": run.config.episodes, trainer.non_finite.counter: trainer.skipped}
    result |= {"minutes": float(trainer.seconds.numpy()) / 60, "machine": machine()}
    if "diverged" not in result:
        result |= _export(run, directory)
    directory.write("result.json", result)
    if "diverged" in result:
        raise _advised(trainer, f"{result['diverged']} ({directory.result_file})", run.config)
    if progress:
        print(results.table(run.config, run.task, result))
        print(f"Run directory: {run.path}  (tensorboard --logdir {run.path})", flush=True)


def _export(run: Run, directory: RunDirectory) -> dict[str, str]:
    """Writes the SavedModel of a run; returns the reason as `not_exported` if a component does not allow it."""
    try:
        export(run.learner, directory.export, label(run.config))
    except (InputError, MemoryError, tf.errors.ResourceExhaustedError):
        # The user can fix this without a change of code; the same command then finishes the run.
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(
            f"flp_tf: the network could not be exported, so {directory.export} is not of this run ({reason}); "
            f"--mode=export --logdir={directory.path} shows where, and exports it when that is mended",
            file=sys.stderr,
        )
        return {"not_exported": reason}
    return {}
