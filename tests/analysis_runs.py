"""What the tests of the analyses share: tiny networks with random weights as runs."""

import csv
from pathlib import Path

import helpers
import numpy as np
import tensorflow as tf

from flp_tf.analysis import Run
from flp_tf.config import Config
from flp_tf.tasks import SPLITS, Classification, Sine

LIFETIMES, SEED = 4, 3
SINES = {
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


def build(config: Config, task):
    """Returns the learner of a configuration, every meta-learned weight random."""
    flags = {k: v for k, v in config.to_dict().items() if k not in ("task", "seed")}
    return helpers.build_learner(task, config.seed, **flags)


def sine_run(path: str = "runs/sine", **flags) -> Run:
    """Returns a network for three sines, every meta-learned weight random."""
    flags = helpers.SMALL | SINES | flags
    config = Config(**flags).resolve()
    task = Sine.from_config(config)
    return Run(Path(path), config, task, build(config, task))


def image_run(path: str = "runs/images", **flags) -> Run:
    """Returns a convolutional network for three classes of noise, weights random."""
    flags = helpers.SMALL | IMAGES | flags
    config = Config(**flags).resolve()
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


def without_plasticity(run: Run) -> Run:
    """Sets the plasticity of every layer to zero."""
    for layer in run.learner.network.head:
        layer.plasticity.assign(tf.zeros_like(layer.plasticity))
    return run


def test_episode(run: Run):
    """Returns the lifetimes that an analysis measures."""
    return run.task.sample(SEED, tf.constant(0), LIFETIMES, "test")


test_episode.__test__ = False


def states(run: Run) -> list[list[np.ndarray]]:
    """Returns the fast weights at birth and after each step of `test_episode`, from a Python loop."""
    episode = test_episode(run)
    state = run.learner.initial_state(LIFETIMES)
    found = [state]
    for x, y in zip(episode.support_x, episode.support_y):
        state = run.learner.learn(state, run.learner.encode(x), y)
        found.append(state)
    return helpers.to_numpy(found)


def outputs(run: Run) -> np.ndarray:
    """Returns the query's outputs under each of `states`, `[steps + 1, lifetimes, examples, outputs]`."""
    features = run.learner.encode(test_episode(run).query_x)
    return np.stack([run.learner.predict(tuple(map(tf.constant, state)), features) for state in states(run)])


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
