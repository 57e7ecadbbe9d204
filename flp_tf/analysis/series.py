"""The networks that an analysis compares, and the lifetimes in which it measures them."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from flp_tf import lifetime
from flp_tf.errors import InputError
from flp_tf.learners import METHODS
from flp_tf.learners.base import Learner
from flp_tf.meta.evaluation import over_lifetimes
from flp_tf.runs.config import Config
from flp_tf.runs.run import Run
from flp_tf.tasks.base import Episode, Task

# Labels name at most this many options in which runs differ; if there are more, they name the folders.
MOST_QUALIFIERS = 2


class Series(NamedTuple):
    """Networks that differ only in their seed; one line in a figure.

    Attributes:
        label: for legends and tables.
        runs: the networks.
        variant: distinguishes series of the same method and number of plastic layers in figures.
    """

    label: str
    runs: tuple[Run, ...]
    variant: int = 0

    @property
    def config(self) -> Config:
        """The configuration of the first network; the others differ from it in the seed."""
        return self.runs[0].config

    @property
    def task(self) -> Task:
        """The task of all networks."""
        return self.runs[0].task


def method_name(config: Config, ignoring: Collection[str] = ()) -> str:
    """Returns a method's name as the paper writes it, such as `FLP (2)` or `OML (3), first order`.

    The text is the method's `label`. For methods with an option `second_order` it includes the order.

    Args:
        config: of a run.
        ignoring: options that are left out of the name.
    """
    label = "any method" if "method" in ignoring else METHODS[config.method].label or config.method
    orders = {None: "", True: ", second order", False: ", first order"}
    depth = "" if "num_plastic_layers" in ignoring else f" ({config.num_plastic_layers})"
    order = "" if "second_order" in ignoring else orders[_second_order(config)]
    return label + depth + order


def family(method: str) -> str:
    """Returns the method that a method restricts to one plastic layer, such as flp for feature_reuse, or itself."""
    component = METHODS[method]
    depth = {field.name: field for field in dataclasses.fields(METHODS.options(method))}["num_plastic_layers"]
    restricted = [name for name in METHODS if METHODS[name] in getattr(component, "__bases__", ())]
    return restricted[0] if restricted and depth.metadata["most"] == 1 else method


def order_name(config: Config) -> str:
    """Returns the order of a lifetime's data, "continual" or "i.i.d."."""
    return "continual" if is_continual(config) else "i.i.d."


def is_continual(config: Config) -> bool:
    """Returns whether concepts come one after the other; False for tasks without this option."""
    return getattr(config, "continual", False)


def in_series(runs: Sequence[Run], analysis: str, ignoring: Collection[str] = ()) -> list[Series]:
    """Groups runs that differ only in their seed into series, and labels each series.

    Args:
        runs: the runs to compare.
        analysis: name of the analysis, for error messages.
        ignoring: further options in which runs of a series may differ.

    Raises:
        InputError: if the runs are not of one task.
    """
    for run in runs:
        if run.config.task != runs[0].config.task:
            raise InputError(
                f"--analysis={analysis} compares runs of one task; --logdir={runs[0].path} is {runs[0].config.task}, "
                f"--logdir={run.path} is {run.config.task}"
            )
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(sorted(identity(run.config, ignoring).items())), []).append(run)
    firsts = [group[0] for group in groups.values()]
    parts = zip(_labels(firsts, ignoring), groups.values(), _variants(firsts))
    return [Series(label, tuple(group), variant) for label, group, variant in parts]


def identity(config: Config, ignoring: Collection[str] = ()) -> dict[str, Any]:
    """Returns the options that runs of a series share: all that affect learning, except the seed and `ignoring`."""
    free = {"seed", "recipe", *ignoring, *config.flags_with("incidental")}
    # Lists as tuples, which can be keys.
    values = {flag: tuple(value) if isinstance(value, list) else value for flag, value in config.to_dict().items()}
    return {flag: value for flag, value in values.items() if flag not in free}


def _second_order(config: Config) -> bool | None:
    """Returns whether the inner gradient is differentiated; None for methods without this option."""
    return getattr(config, "second_order", None)


def _labels(runs: Sequence[Run], ignoring: Collection[str]) -> list[str]:
    """Returns labels that distinguish runs: their names and, if necessary, order, options or folder."""
    several_orders = len({is_continual(run.config) for run in runs}) > 1 and "continual" not in ignoring
    names = [method_name(run.config, ignoring) + f", {order_name(run.config)}" * several_orders for run in runs]
    return [
        label + _qualifier(run, [r for r, n in zip(runs, names) if n == label], ignoring)
        for run, label in zip(runs, names)
    ]


def _qualifier(run: Run, namesakes: Sequence[Run], ignoring: Collection[str]) -> str:
    """Returns what distinguishes a run from others of its name: the options in which it differs from most of them."""
    identities, own = [identity(namesake.config, ignoring) for namesake in namesakes], identity(run.config)
    named = []
    for flag in dict.fromkeys(flag for found in identities for flag in found):
        values = [found.get(flag) for found in identities]
        usual, count = collections.Counter(values).most_common(1)[0]
        # An option with the same value in all runs that have it follows from a component, which is named.
        follows = None in values and len(set(values)) == 2
        if flag in own and not follows and not (own[flag] == usual and 2 * count > len(values)):
            named.append(f", {flag}={own[flag]}")
    return f", {_folder(run, namesakes)}" if len(named) > MOST_QUALIFIERS else "".join(named)


def _folder(run: Run, others: Sequence[Run]) -> str:
    """Returns the end of a run's path, as much of it as distinguishes it from the other runs."""
    parts = run.path.parts
    for count in range(1, len(parts)):
        same = [other for other in others if other.path.parts[-count:] == parts[-count:]]
        if len(same) == 1:
            return str(Path(*parts[-count:]))
    return str(run.path)


def _variants(runs: Sequence[Run]) -> list[int]:
    """Returns numbers that distinguish runs of the same method and number of plastic layers.

    For methods that have both orders, numbers of the second order are even and those of the first order are odd.
    """
    taken: set[tuple[str, int, int]] = set()
    variants = []
    for run in runs:
        second_order = _second_order(run.config)
        variant = int(second_order is False)
        while (run.config.method, run.config.num_plastic_layers, variant) in taken:
            variant += 1 if second_order is None else 2
        taken.add((run.config.method, run.config.num_plastic_layers, variant))
        variants.append(variant)
    return variants


def require_continual(runs: Sequence[Run], analysis: str) -> None:
    """Checks that the lifetimes of all runs are continual and have several concepts.

    Raises:
        InputError: if this is not so.
    """
    for run in runs:
        if not is_continual(run.config):
            raise InputError(
                f"--analysis={analysis} needs continual runs (--continual); --logdir={run.path} is an i.i.d. one"
            )
        if run.task.num_concepts < 2:
            raise InputError(
                f"--analysis={analysis} needs lifetimes of at least 2 concepts; --logdir={run.path} has "
                f"{run.task.num_concepts}"
            )


def measure(series: Series, function: Callable[[Run, Episode], Any], *, lifetimes: int, seed: int) -> Any:
    """Applies a function to unseen lifetimes of every network of a series, compiled.

    Args:
        series: the networks.
        function: maps a run and an `Episode` to a structure of tensors
            `[lifetimes, ...]`.
        lifetimes: number of lifetimes of each network.
        seed: of the lifetimes, which are the same for every network.

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
    """Returns the query's outputs before the first and after every inner step of a lifetime.

    Returns:
        `[steps + 1, lifetimes, examples, outputs]`.
    """
    features = learner.encode(episode.query_x)
    state = learner.initial_state(episode.seed)

    def trace(t, state, x, y, new_state):
        del t, state, x, y
        return learner.predict(new_state, features)

    outputs = lifetime.run(learner, episode, state=state, trace=trace).traces
    return tf.concat([learner.predict(state, features)[None], outputs], 0)
