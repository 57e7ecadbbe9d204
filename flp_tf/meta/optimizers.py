"""Outer optimizers: one per group of meta-learned weights, each with its own rate.

They are those of `keras.optimizers`. The paper uses Adam for every group (appendix B).
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import keras
import tensorflow as tf

from flp_tf.errors import ContractError, InputError
from flp_tf.meta.schedules import Constant, Course, Schedule, WarmedUp
from flp_tf.registry import option

# The weights of each group, in the notation of the paper.
WEIGHTS = {
    "slow": "W and b",
    "feedback": "the feedback pathway (B and c)",
    "plasticity": "a, where alpha = plasticity_scale * a",
    "strength": "beta",
    "rule": "the plasticity rule",
    "initial": "the distribution of the initial plastic weights",
}


class Kind(NamedTuple):
    """A kind of optimizer.

    Attributes:
        make: `make(learning_rate=..., weight_decay=...) -> keras.optimizers.Optimizer`.
        decays: whether `--weight_decay` applies to it.
    """

    make: Callable[..., keras.optimizers.Optimizer]
    decays: bool = False


def _kinds() -> dict[str, Kind]:
    """Returns the optimizers of the installed Keras.

    These are left out: optimizers without a rate of their own (Adadelta), those that only save memory
    (Adafactor), those for sparse features (Adagrad, Ftrl), and Nadam, which has
    an unnamed variable with a different value on each device. ScheduleFreeAdamW and
    `use_ema` are left out because the weights to evaluate and to save are averages of the
    trained ones. In addition, ScheduleFreeAdamW of Keras 3.15 with TensorFlow does not follow its
    paper: it recovers the average from the new `momentum` instead of the old one.
    """
    optimizers = keras.optimizers
    return {
        "adam": Kind(optimizers.Adam),
        # Keras' AdamW is its Adam with weight decay, but refuses to have none.
        "adamw": Kind(optimizers.Adam, decays=True),
        "adamax": Kind(optimizers.Adamax),
        "lamb": Kind(optimizers.Lamb, decays=True),
        "lion": Kind(optimizers.Lion, decays=True),
        "momentum": Kind(functools.partial(optimizers.SGD, momentum=0.9, nesterov=True), decays=True),
        "muon": Kind(_muon, decays=True),
        "rmsprop": Kind(optimizers.RMSprop),
        "sgd": Kind(optimizers.SGD, decays=True),
    }


def _muon(learning_rate: Callable, weight_decay: float | None) -> keras.optimizers.Optimizer:
    """Returns `keras.optimizers.Muon` (Jordan et al. 2024, Liu et al. 2025, arXiv:2502.16982).

    For a matrix `[n, m]` with gradient `g`:

        M <- 0.95 M + g
        W <- W - rate * 0.2 * sqrt(max(n, m)) * orthogonalize(g + 0.95 M)

    `orthogonalize` is five Newton-Schulz steps, which bring all singular values near 1.
    All other weights, including biases and kernels of convolutions, are trained by Adam at
    the same rate. All arguments are given, because Keras' defaults have changed.
    """
    return _Muon(
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        momentum=0.95,
        nesterov=True,
        ns_steps=5,
        rms_rate=0.2,
        adam_lr_ratio=1,
        exclude_embeddings=False,
        name="muon",
    )


class _Muon(getattr(keras.optimizers, "Muon", keras.optimizers.Optimizer)):
    """Muon with one weight decay for all weights, which also works on several devices."""

    # Muon's own method assigns to a distributed variable on one device, which TensorFlow refuses.
    _apply_weight_decay = keras.optimizers.Optimizer._apply_weight_decay


# The values of `--GROUP_optimizer`. A new one needs one line: `OPTIMIZERS["mine"] = Kind(Mine)`.
OPTIMIZERS: dict[str, Kind] = _kinds()


@functools.cache
def with_groups(base: type, groups: tuple[str, ...]) -> type:
    """Returns a subclass with the options `GROUP_rate` and `GROUP_optimizer` of some groups.

    Args:
        base: the options to extend, such as `OptimizerOptions`.
        groups: some of `component.GROUPS`.
    """
    fields = []
    for group in groups:
        rate = option(1e-4, f"Outer learning rate of {WEIGHTS[group]}.", least=0)
        optimizer = option("adam", f"Outer optimizer of {WEIGHTS[group]}.", legal=OPTIMIZERS)
        fields += [(f"{group}_rate", float, rate), (f"{group}_optimizer", str, optimizer)]

    def reduced(options: OptimizerOptions) -> tuple:
        """Tells `pickle` how to make the options, because it cannot look up their class by name."""
        return _unpickled, (base, groups, vars(options))

    return dataclasses.make_dataclass(
        base.__name__, fields, bases=(base,), frozen=True, namespace={"__reduce__": reduced}
    )


def _unpickled(base: type, groups: tuple[str, ...], values: Mapping[str, object]) -> object:
    return with_groups(base, groups)(**values)


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """Options of all outer optimizers: those below, and those of `with_groups`."""

    weight_decay: float = option(
        0.0, "Decoupled weight decay, relative to the rate, in groups whose optimizer has it.", least=0
    )
    warmup_steps: int = option(0, "Outer steps over which the rates rise linearly from 0.", least=0)
    clip_norm: float = option(0.0, "Clip the meta-gradient of each group to this norm; 0 does not.", least=0)

    def rate(self, group: str) -> float:
        """Returns the outer learning rate of a group."""
        return getattr(self, f"{group}_rate")

    def optimizer(self, group: str) -> str:
        """Returns the name of a group's optimizer."""
        return getattr(self, f"{group}_optimizer")


class Optimizers:
    """One optimizer per group of weights.

    Gradients are nested as the weights are: `{group: {path: tensor}}`.

    Args:
        groups: the weights by group and path, from `Learner.groups`.
        options: rates, optimizers, weight decay, warm-up and clipping.
        steps: updates of the whole run, for the schedule.
        schedule: the course of the rates, counted in updates. Constant by default.

    Attributes:
        groups: the groups that have weights.
        optimizers: the Keras optimizer of each of them.
        variables: all state by name, such as `slow/iteration` or
            `slow/momentum/network/layers/layer_1/kernel`: group, the optimizer's name for
            it, and the path of the weight.

    Raises:
        InputError: if there is weight decay, and no group's optimizer has it, or if the schedule does not go
            with the groups.
        ContractError: if there are weights of a group that has no rate.
    """

    def __init__(
        self,
        groups: Mapping[str, Mapping[str, keras.Variable]],
        options: OptimizerOptions,
        steps: int,
        schedule: Schedule | None = None,
    ):
        schedule = schedule or Constant()
        self.groups = {group: dict(weights) for group, weights in groups.items() if weights}
        self.clip_norm = options.clip_norm
        _check_rates(self.groups, options)
        _check_weight_decay(self.groups, options)
        schedule.check(self.groups)
        self.optimizers: dict[str, keras.optimizers.Optimizer] = {}
        self.variables: dict[str, tf.Variable] = {}
        for group, weights in self.groups.items():
            kind = OPTIMIZERS[options.optimizer(group)]
            decay = options.weight_decay if kind.decays else 0.0
            rate = _course(schedule, group, options, steps)
            optimizer = self.optimizers[group] = kind.make(learning_rate=rate, weight_decay=decay or None)
            self.variables |= {f"{group}/{name}": variable for name, variable in _build(optimizer, weights).items()}

    def norms(self, gradients: Mapping[str, Mapping[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
        """Returns the norm of each group's gradient, before clipping."""
        return {group: tf.linalg.global_norm(self._ordered(group, gradients)) for group in self.groups}

    def apply(self, gradients: Mapping[str, Mapping[str, tf.Tensor]]) -> None:
        """Takes one outer step; clips each group separately to `clip_norm`.

        Args:
            gradients: the mean over replicas, by group and path.
        """
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for group, optimizer in self.optimizers.items():
            part = self._ordered(group, gradients)
            if self.clip_norm:
                # An infinite norm would make all entries NaN.
                norm = tf.minimum(tf.linalg.global_norm(part), part[0].dtype.max)
                part, _ = tf.clip_by_global_norm(part, self.clip_norm, norm)
            # Keras sums over replicas again.
            optimizer.apply([gradient / replicas for gradient in part])

    def _ordered(self, group: str, gradients: Mapping[str, Mapping[str, tf.Tensor]]) -> list[tf.Tensor]:
        return [gradients[group][path] for path in self.groups[group]]


def _course(schedule: Schedule, group: str, options: OptimizerOptions, steps: int) -> Course:
    """Returns the course of a group's rate, after the warm-up if there is one."""
    rate, warmup = options.rate(group), options.warmup_steps
    if not warmup:
        return schedule.course(group, rate, steps)
    after = schedule.recounted(lambda update: update - warmup).course(group, rate, steps - warmup)
    return WarmedUp(rate, warmup, after)


def _check_rates(groups: Mapping[str, Mapping[str, object]], options: OptimizerOptions) -> None:
    """Raises ContractError if there are weights without a rate."""
    for group, weights in groups.items():
        if not hasattr(options, f"{group}_rate"):
            raise ContractError(
                f"{next(iter(weights))} is of the group {group}, which has no rate; "
                f"the component that has the weight must name the group in `trains`"
            )


def _check_weight_decay(groups: Mapping[str, object], options: OptimizerOptions) -> None:
    """Raises InputError if weight decay is given, but no group's optimizer has it."""
    names = {group: options.optimizer(group) for group in groups}
    if options.weight_decay and not any(OPTIMIZERS[name].decays for name in names.values()):
        flags = ", ".join(f"--{group}_optimizer={name}" for group, name in names.items())
        legal = ", ".join(sorted(name for name, kind in OPTIMIZERS.items() if kind.decays))
        raise InputError(
            f"--weight_decay={options.weight_decay:g} does not go with {flags}; optimizers with weight decay: {legal}"
        )


def _build(optimizer: keras.optimizers.Optimizer, weights: Mapping[str, keras.Variable]) -> dict[str, tf.Variable]:
    """Builds an optimizer; returns its variables by name.

    Keras names a variable after the name of its weight, which need not be unique. Here it is
    `SLOT/PATH`, such as `momentum/network/layers/layer_1/kernel`, and `iteration` for the
    counter, which has no weight.
    """
    paths = {id(weight): path for path, weight in weights.items()}
    names: dict[int, str] = {}
    add = optimizer.add_variable_from_reference

    def recording(reference_variable, name=None, initializer="zeros"):
        variable = add(reference_variable, name=name, initializer=initializer)
        names[id(variable)] = f"{name}/{paths[id(reference_variable)]}"
        return variable

    optimizer.add_variable_from_reference = recording
    optimizer.build(list(weights.values()))
    del optimizer.add_variable_from_reference
    return {names.get(id(variable), variable.name): variable.value for variable in optimizer.variables}
