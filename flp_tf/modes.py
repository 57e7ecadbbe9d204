"""What `--mode` can be, each a function of the parsed flags."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from flp_tf import config as configuration
from flp_tf import learners
from flp_tf.analysis import ANALYSES, OUTER_FLAGS, Run
from flp_tf.config import Config
from flp_tf.export import export
from flp_tf.learners.base import Learner
from flp_tf.meta import distribution
from flp_tf.meta.checkpoints import Checkpoints
from flp_tf.meta.evaluation import Evaluation, Evaluator
from flp_tf.meta.run_directory import RunDirectory, machine
from flp_tf.meta.trainer import Diverged, Interrupted, Trainer, progress, train
from flp_tf.registry import Registry
from flp_tf.tasks import TASKS, Task

ANALYSIS_FLAGS = ("seed", "eval_episodes", "jit_compile")
# Of a run's configuration, what stands beside its figures.
FACTS = ("task", "continual", "method", "num_plastic_layers", "second_order", "seed", "eval_lifetime_scale")


def load(logdir: str, config: Config | None = None) -> tuple[Config, Task, Learner]:
    """Loads a finished or interrupted run: `config, task, learner = load(DIR)`.

    Args:
        logdir: the run directory.
        config: the run's configuration with other options; as saved by default.

    Raises:
        ValueError: if there is no run, no checkpoint, or none that fits.
    """
    config, task, learner, _ = _restore(logdir, config)
    return config, task, learner


def _restore(logdir: str, config: Config | None) -> tuple[Config, Task, Learner, dict[str, float]]:
    """Does what `load` says, and returns how far the run had come, too."""
    directory = RunDirectory(logdir)
    config = config or directory.config().resolve()
    task = TASKS[config.task].from_config(config)
    learner = learners.build(config, task)
    checkpoints = Checkpoints(directory.checkpoints, [weight.value for weight in learner.network.weights])
    step = checkpoints.restore()
    if step is None:
        raise ValueError(f"--logdir={logdir} holds no checkpoint yet")
    return config, task, learner, progress(checkpoints, step, config)


def run_training(values: flags.FlagValues) -> None:
    """Meta-trains, or goes on with an interrupted run, to the final meta-test."""
    config = configuration.from_flags(values)
    directory = RunDirectory(values.logdir)
    task = TASKS[config.task].from_config(config)
    test_task = task.longer(config.eval_lifetime_scale)
    strategy = distribution.strategy(config.distribution)
    chief = distribution.is_chief(strategy)
    with strategy.scope():
        trainer = Trainer(config, task, learners.build(config, task), strategy)
    if chief:
        directory.claim(config)
    with saying_why_it_stops():
        train(trainer, directory, chief)
    if chief:
        finish(trainer, test_task, directory)


@contextlib.contextmanager
def saying_why_it_stops() -> Iterator[None]:
    """Turns an interruption or a divergence into one line and a non-zero exit."""
    try:
        yield
    except Interrupted as interrupted:
        print(f"Stopped after {interrupted.episodes} lifetimes and saved; the same command continues.")
        raise SystemExit(128 + interrupted.signal) from None
    except Diverged as diverged:
        raise SystemExit(f"flp_tf: {diverged}") from None


def finish(trainer: Trainer, test_task: Task, directory: RunDirectory) -> None:
    """Ends a run: meta-test, `result.json`, SavedModel, and the table on the screen."""
    config = trainer.config
    evaluation = Evaluator(trainer.learner, test_task, config.jit_compile)(config.seed, config.eval_episodes)
    result = {name: getattr(config, name) for name in (*FACTS, "episodes")}
    result |= evaluation.to_dict(test_task.concept)
    result |= {"skipped_steps": int(trainer.counters[1].numpy())}
    result |= {"minutes": float(trainer.seconds.numpy()) / 60, "machine": machine()}
    directory.write("result.json", result)
    export(trainer.learner, directory.export)
    print(table(config, test_task, evaluation))
    print(f"Run directory: {directory.path}  (tensorboard --logdir {directory.path})")


def run_evaluation(values: flags.FlagValues) -> None:
    """Repeats the meta-test of a run on other lifetimes, or more."""
    config = recall(values, "seed")
    directory = RunDirectory(values.logdir)
    directory.check_writable()
    _, task, learner, done = _restore(values.logdir, config)
    task = task.longer(config.eval_lifetime_scale)
    evaluation = Evaluator(learner, task, config.jit_compile)(config.seed, config.eval_episodes)
    facts = {name: getattr(config, name) for name in FACTS} | done
    directory.write("evaluation.json", facts | evaluation.to_dict(task.concept))
    print(table(config, task, evaluation))


def recall(values: flags.FlagValues, *free: str) -> Config:
    """Returns the configuration of the run in `--logdir`, with the options given now.

    Args:
        values: the parsed flags.
        *free: flags that, beside the options, need not be those of the run.

    Raises:
        ValueError: if there is no run, or a flag is not the run's.
    """
    directory = RunDirectory(values.logdir)
    given = configuration.given(values)
    freed = {name: given.pop(name) for name in free if name in given}
    config = dataclasses.replace(directory.config(), **given)
    directory.check_same_run(config)
    return dataclasses.replace(config, **freed).resolve()


def run_export(values: flags.FlagValues) -> None:
    """Writes the SavedModel of a run."""
    config = recall(values)
    directory = RunDirectory(values.logdir)
    directory.check_writable()
    _, _, learner = load(values.logdir, config)
    export(learner, directory.export)
    print(f"SavedModel: {directory.export}")


def run_analysis(values: flags.FlagValues) -> None:
    """Makes a figure of the paper from one run or several, their folders joined by commas."""
    analyze = ANALYSES[values.analysis]
    given = configuration.given(values)
    outer = {name: given.pop(name) for name in OUTER_FLAGS.get(values.analysis, ()) if name in given}
    if unknown := given.keys() - set(ANALYSIS_FLAGS):
        legal = ", ".join((*ANALYSIS_FLAGS, *OUTER_FLAGS.get(values.analysis, ())))
        raise ValueError(f"--{min(unknown)} does not go with --analysis={values.analysis}; legal are {legal}")
    logdirs = values.logdir.split(",")
    output = RunDirectory(values.output or str(Path(logdirs[0]) / "analysis" / values.analysis))
    output.check_writable("output")
    options = {"jit_compile": values.jit_compile} if "jit_compile" in given else {}
    runs = []
    for logdir in logdirs:
        config, task, learner = load(logdir)
        runs.append(Run(RunDirectory(logdir).path, dataclasses.replace(config, **options).resolve(), task, learner))
    with saying_why_it_stops():
        result = analyze(runs, output.path, lifetimes=values.eval_episodes, seed=values.seed, **outer)
    for file in result.files:
        print(file)


def table(config: Config, task: Task, evaluation: Evaluation) -> str:
    """Returns the meta-test as text: mean, standard error, and by sine or class."""
    content = evaluation.to_dict(task.concept)
    order = "continual" if config.continual else "i.i.d."
    method = f"{config.method}({config.num_plastic_layers})"
    lines = [
        f"Meta-test of {method} on {config.task}, {order}: {len(evaluation.errors)} lifetimes of unseen data",
        f"  {'':>16} {task.unit:>10} {'std. error':>12}",
    ]
    rows = [("before lifetime", content["before_lifetime"]), ("after lifetime", content["meta_test"])]
    rows += [(f"{task.concept} {i + 1}", row) for i, row in enumerate(content[f"per_{task.concept}"])]
    lines += [f"  {name:>16} {row['mean']:>10.4g} {row['stderr']:>12.2g}" for name, row in rows]
    return "\n".join(lines)


MODES = Registry("mode", train=run_training, evaluate=run_evaluation, analyze=run_analysis, export=run_export)
