"""What the tests of the analyses share: tiny networks with random weights as runs."""

import csv
import dataclasses
from pathlib import Path

import helpers
import numpy as np
import tensorflow as tf

from flp_tf.analysis import ANALYSES
from flp_tf.learners import METHODS
from flp_tf.runs.config import Config, configure
from flp_tf.runs.run import Run
from flp_tf.tasks import SPLITS, Classification

LIFETIMES, SEED = 4, 3
# Columns of standard errors.
OVER_NETWORKS, OVER_LIFETIMES = (f"standard_error_over_{counted}" for counted in ("networks", "lifetimes"))
SINES = {
    "task": "sine",
    "num_sines": 3,
    "lifetime": 6,
    "batch_size": 4,
    "query_size": 5,
    "continual": True,
    "plasticity_scale": 1e-3,
    "inner_rate": 1e-3,
    "jit_compile": False,
}
IMAGES = {
    "task": "omniglot",
    "network": "c3s2-6",
    "plasticity_scale": 1e-3,
    "inner_rate": 1e-2,
    "continual": True,
    "ways": 3,
    "shots": 2,
    "query_size": 4,
    "feedback_signal": "target",
    "clamp_output": True,
    "jit_compile": False,
}


def configuration(defaults: dict, flags: dict) -> Config:
    """Returns the configuration of flags, and of those defaults that the chosen method has or that are no method's."""
    options = {name: {field.name for field in dataclasses.fields(METHODS.options(name))} for name in METHODS}
    others = set().union(*options.values()) - options[flags.get("method", "flp")]
    return configure(**{name: value for name, value in defaults.items() if name not in others} | flags)


def build(config: Config, task):
    """Returns the learner of a configuration, every meta-learned weight random."""
    values = config.to_dict()
    flags = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return helpers.build_learner(task, **{name: value for name, value in flags.items() if name != "task"})


def sine_run(path: str = "runs/sine", **flags) -> Run:
    """Returns a network for three sines, every meta-learned weight random."""
    config = configuration(helpers.SMALL | SINES, flags)
    task = config.make_task()
    return Run(Path(path), config, task, build(config, task))


def image_run(path: str = "runs/images", **flags) -> Run:
    """Returns a convolutional network for three classes of noise, weights random."""
    config = configuration(helpers.SMALL | IMAGES, flags)
    rng = np.random.default_rng(0)
    images = {split: rng.integers(256, size=(4, 6, 9, 9, 1), dtype=np.uint8) for split in SPLITS}
    task = Classification(images, config.ways, config.shots, config.query_size, config.continual)
    run = Run(Path(path), config, task, build(config, task))
    # No silent neurons and no certain outputs: their gradient is zero, or lost in rounding.
    network = run.learner.network
    for layer in (*network.trunk, *network.head[:-1]):
        layer.bias.assign(tf.ones_like(layer.bias))
    network.head[-1].kernel.assign(0.1 * network.head[-1].kernel)
    return run


def analyze(name: str, runs: list[Run], output: Path, lifetimes: int = LIFETIMES, **options):
    """Returns the result of an analysis."""
    return ANALYSES[name](runs, output, lifetimes=lifetimes, seed=SEED, **options)


def without_plasticity(run: Run) -> Run:
    """Sets the plasticity of every layer to zero."""
    for layer in run.learner.network.head:
        layer.plasticity.assign(tf.zeros_like(layer.plasticity))
    return run


def test_episode(run: Run):
    """Returns the lifetimes that an analysis measures."""
    return run.task.sample(SEED, tf.constant(0), LIFETIMES, "test")


test_episode.__test__ = False


def states(run: Run) -> list[dict]:
    """Returns the state before the first and after each step of `test_episode`, from a Python loop."""
    episode = test_episode(run)
    state = run.learner.initial_state(episode.seed)
    found = [state]
    for x, y in zip(episode.support_x, episode.support_y):
        state = run.learner.learn(state, run.learner.encode(x), y)
        found.append(state)
    return found


def kernels(run: Run) -> list[list[np.ndarray]]:
    """Returns the fast kernels of each of `states`, from the input side up."""
    return [[state[layer.name]["kernel"].numpy() for layer in run.learner.network.head] for state in states(run)]


def outputs(run: Run) -> np.ndarray:
    """Returns the query's outputs under each of `states`, `[steps + 1, lifetimes, examples, outputs]`."""
    features = run.learner.encode(test_episode(run).query_x)
    return np.stack([run.learner.predict(state, features) for state in states(run)])


def table(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def column(rows: list[dict], name: str = "mean", **where) -> np.ndarray:
    """Returns a column of the rows in which other columns have the given values."""
    return np.array([float(row[name]) for row in rows if all(row[k] == v for k, v in where.items())])


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard error over the first axis."""
    return values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))
