"""The networks that an analysis compares, and the lifetimes it measures them in."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from flp_tf import lifetime
from flp_tf.config import Config
from flp_tf.learners.base import Learner
from flp_tf.meta.evaluation import over_lifetimes
from flp_tf.tasks.base import Episode, Task

METHOD_NAMES = {"flp": "FLP", "feature_reuse": "feature reuse", "dfa": "DFA", "oml": "OML"}
DIFFERENTIATED = ("gradient", "oml")
# Flags in which networks of one series may differ.
INCIDENTAL = ("seed", "data_dir", "omniglot_archives", "mini_imagenet_dir")
MOST_QUALIFIERS = 2


class Run(NamedTuple):
    """A meta-trained network.

    Attributes:
        path: its run directory.
        config: its configuration.
        task: its task.
        learner: its learner, with the meta-learned weights.
    """

    path: Path
    config: Config
    task: Task
    learner: Learner


class Series(NamedTuple):
    """Networks that differ in their seed alone; one line in a figure.

    Attributes:
        label: for legends and tables.
        runs: the networks.
        variant: tells series of the same method and depth apart in figures.
    """

    label: str
    runs: tuple[Run, ...]
    variant: int = 0

    @property
    def config(self) -> Config:
        """The configuration, of any of them."""
        return self.runs[0].config

    @property
    def task(self) -> Task:
        """The task, of any of them."""
        return self.runs[0].task


def name(config: Config) -> str:
    """Returns a method's name as the paper writes it: `FLP (2)`."""
    text = f"{METHOD_NAMES.get(config.method, config.method)} ({config.num_plastic_layers})"
    if config.method in DIFFERENTIATED:
        text += ", first order" if _first_order(config) else ", second order"
    return text


def in_series(runs: Sequence[Run], analysis: str) -> list[Series]:
    """Gathers runs that differ in their seed alone, and names what tells series apart.

    Args:
        runs: what to compare.
        analysis: name of the analysis, for errors.

    Raises:
        ValueError: if the runs are not of one task.
    """
    for run in runs:
        if run.config.task != runs[0].config.task:
            raise ValueError(
                f"--analysis={analysis} compares runs of one task; --logdir={runs[0].path} is {runs[0].config.task}, "
                f"--logdir={run.path} is {run.config.task}"
            )
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(identity(run.config).values()), []).append(run)
    firsts = [group[0] for group in groups.values()]
    parts = zip(_labels(firsts), groups.values(), _variants(firsts))
    return [Series(label, tuple(group), variant) for label, group, variant in parts]


def identity(config: Config) -> dict[str, Any]:
    """Returns the fields that make a run another one than its repetition."""
    fields = [field.name for field in dataclasses.fields(config) if not field.metadata["option"]]
    found = {field: getattr(config, field) for field in fields if field not in INCIDENTAL}
    return found | {"second_order": not _first_order(config)}


def _first_order(config: Config) -> bool:
    return config.method in DIFFERENTIATED and not config.second_order


def _labels(runs: Sequence[Run]) -> list[str]:
    """Returns what tells runs apart: their names, and if need be order, flags or folder."""
    orders = len({run.config.continual for run in runs}) > 1
    names = []
    for run in runs:
        order = "continual" if run.config.continual else "i.i.d."
        names.append(name(run.config) + f", {order}" * orders)
    return [label + _qualifier(run, [r for r, n in zip(runs, names) if n == label]) for run, label in zip(runs, names)]


def _qualifier(run: Run, namesakes: Sequence[Run]) -> str:
    """Returns what tells a run from others of its name, nothing if there are none."""
    identities = [identity(namesake.config) for namesake in namesakes]
    different = [field for field in identities[0] if len({found[field] for found in identities}) > 1]
    if len(different) > MOST_QUALIFIERS:
        return f", {run.path.name}"
    return "".join(f", {field}={getattr(run.config, field)}" for field in different)


def _variants(runs: Sequence[Run]) -> list[int]:
    """Returns numbers that tell runs of a method and depth apart; odd for first order."""
    taken: set[tuple[str, int, int]] = set()
    variants = []
    for run in runs:
        variant = int(_first_order(run.config))
        while (run.config.method, run.config.num_plastic_layers, variant) in taken:
            variant += 2
        taken.add((run.config.method, run.config.num_plastic_layers, variant))
        variants.append(variant)
    return variants


def require_continual(runs: Sequence[Run], analysis: str) -> None:
    """Raises ValueError unless every lifetime goes concept after concept, several of them."""
    for run in runs:
        if not run.config.continual:
            raise ValueError(
                f"--analysis={analysis} needs continual runs (--continual); --logdir={run.path} is an i.i.d. one"
            )
        if run.task.num_concepts < 2:
            raise ValueError(
                f"--analysis={analysis} needs lifetimes of at least 2 concepts; --logdir={run.path} has "
                f"{run.task.num_concepts}"
            )


def measure(series: Series, function: Callable[[Run, Episode], Any], *, lifetimes: int, seed: int) -> Any:
    """Applies a function to unseen lifetimes of every network of a series, compiled.

    Args:
        series: the networks.
        function: maps a run and an `Episode` to a structure of tensors
            `[lifetimes, ...]`.
        lifetimes: how many lifetimes of each network.
        seed: of the lifetimes, the same ones for every network.

    Returns:
        The structure with arrays `[networks * lifetimes, ...]`.
    """
    parts = []
    for run in series.runs:
        of_run = functools.partial(function, run)
        compiled = tf.function(of_run, autograph=False, jit_compile=run.config.jit_compile)
        parts.append(over_lifetimes(compiled, run.task, seed, lifetimes, "test"))
    return tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *parts)


def query_outputs(learner: Learner, episode: Episode) -> tf.Tensor:
    """Returns the query's outputs at birth and after every inner step of a lifetime.

    Returns:
        `[steps + 1, lifetimes, examples, outputs]`.
    """
    features = learner.encode(episode.query_x)
    state = learner.initial_state(episode.query_x.shape[0])

    def trace(t, state, x, y, new_state):
        del t, state, x, y
        return learner.predict(new_state, features)

    outputs = lifetime.run(learner, episode, state=state, trace=trace).traces
    return tf.concat([learner.predict(state, features)[None], outputs], 0)
