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
        groups.setdefault(tuple(_identity(run.config).values()), []).append(run)
    namesakes: dict[tuple, list[list[Run]]] = {}
    for group in groups.values():
        config = group[0].config
        namesakes.setdefault((config.method, config.num_plastic_layers), []).append(group)
    orders = {run.config.continual for run in runs}
    return [
        Series(label, tuple(group), variant)
        for groups in namesakes.values()
        for group, label, variant in zip(groups, _labels(groups, mixed_orders=len(orders) > 1), _variants(groups))
    ]


def _identity(config: Config) -> dict[str, Any]:
    """Returns the fields that make a run another one than its repetition."""
    fields = [field.name for field in dataclasses.fields(config) if not field.metadata["option"]]
    identity = {field: getattr(config, field) for field in fields if field not in INCIDENTAL}
    return identity | {"second_order": not _first_order(config)}


def _first_order(config: Config) -> bool:
    return config.method in DIFFERENTIATED and not config.second_order


def _labels(groups: list[list[Run]], mixed_orders: bool) -> list[str]:
    """Returns the labels of groups of the same method and depth."""
    identities = [_identity(group[0].config) for group in groups]
    told = ("second_order", "continual")
    different = [f for f in identities[0] if f not in told and len({identity[f] for identity in identities}) > 1]
    labels = []
    for group, identity in zip(groups, identities):
        label = name(group[0].config)
        if mixed_orders:
            label += ", continual" if identity["continual"] else ", i.i.d."
        if len(different) > MOST_QUALIFIERS:
            label += f", {group[0].path.name}"
        else:
            label += "".join(f", {field}={identity[field]}" for field in different)
        labels.append(label)
    return labels


def _variants(groups: list[list[Run]]) -> list[int]:
    """Returns numbers that tell groups apart; even for second order, odd for first."""
    variants: list[int] = []
    for group in groups:
        variant = int(_first_order(group[0].config))
        while variant in variants:
            variant += 2
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


def measure(
    series: Series, function: Callable[[Run, Episode], Any], *, lifetimes: int, seed: int
) -> Any:
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
