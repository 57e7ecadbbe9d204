"""Adaptability: can features that were meta-learned for reuse still adapt (section 7.1)?"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flp_tf import learners
from flp_tf.analysis import figures
from flp_tf.analysis.base import ANALYSES, with_options
from flp_tf.analysis.readout import errors_after_lifetime
from flp_tf.analysis.result import Baseline, Curve, Result, save
from flp_tf.analysis.series import Series, identity, in_series
from flp_tf.errors import InputError
from flp_tf.files import check_no_link
from flp_tf.learners.base import Learner
from flp_tf.meta.evaluation import Evaluator
from flp_tf.registry import option
from flp_tf.runs import training
from flp_tf.runs.config import Config
from flp_tf.runs.directory import RunDirectory
from flp_tf.runs.run import Run

NAME = "adaptability"
PANEL = "after the lifetime"
# Features are meta-learned with the first method, and adapted with the second.
REUSE, PLASTIC = "feature_reuse", "flp"
DEFAULT_DEPTH = 2
# Value of an option that stands for the one that the feature-reuse run was trained with.
AS_TRAINED = -1


@dataclasses.dataclass(frozen=True)
class AdaptabilityOptions:
    """Options of the outer loop with which meta-training continues.

    The rates of plasticity and strength are lower than those that trained the features: at
    1e-3, plasticity below the output layer diverges within 21 lifetimes.
    """

    episodes: int = option(AS_TRAINED, "Lifetimes of the adaptation; -1: as many as the run has.", least=AS_TRAINED)
    feedback_rate: float = option(AS_TRAINED, "Outer rate of feedback; -1: that of the run.", least=AS_TRAINED)
    plasticity_rate: float = option(1e-4, "Outer rate of plasticity in the adaptation.", least=0)
    strength_rate: float = option(1e-4, "Outer rate of beta in the adaptation.", least=0)
    warmup_steps: int = option(100, "Outer steps over which its rates rise from 0, at most all.", least=0)
    clip_norm: float = option(AS_TRAINED, "Norm to clip meta-gradients to; -1: that of the run.", least=AS_TRAINED)
    checkpoint_minutes: float = option(2.0, "Minutes between two checkpoints of the adaptation.", least=0)


@ANALYSES.register(NAME)
@with_options(AdaptabilityOptions)
def analyze(runs: list[Run], output: Path, *, lifetimes: int, seed: int, **outer: Any) -> Result:
    """Adds plasticity to a feature-reuse network with frozen forward weights (section 7.1).

    The slow forward weights of each feature-reuse run are frozen. Layers below the output get
    plasticity and feedback, and meta-training continues with only these (and those of the
    output layer). The error of the result lies between those of feature reuse and of FLP that
    was meta-learned from the start. The nearer it is to FLP, the less specific FLP's features
    are. As a control, the output layer alone is meta-trained for as many additional
    lifetimes; what this gains is not due to plasticity below the output.

    The adapted networks have as many plastic layers as the given FLP runs (2 if there
    are none), the controls have one. Both are run directories in the output folder, so that an
    interrupted analysis can continue. They are meta-trained as the feature-reuse run was, but
    without its curriculum and with the outer steps of `AdaptabilityOptions`.

    Args:
        runs: feature-reuse runs, and FLP runs to compare with.
        output: folder of the results.
        lifetimes: unseen lifetimes of each network.
        seed: of the lifetimes.
        **outer: fields of `AdaptabilityOptions`; missing ones have their defaults.

    Raises:
        InputError: if there is no feature-reuse run, or a run of another method.
        Interrupted: see `flp_tf.runs.training.train`.
        Diverged: see `flp_tf.runs.training.train`.
    """
    for run in runs:
        if run.config.method not in (REUSE, PLASTIC):
            raise InputError(
                f"--analysis={NAME} compares {REUSE} and {PLASTIC}; --logdir={run.path} is {run.config.method}"
            )
    given = in_series(runs, NAME)
    reused = [series for series in given if series.config.method == REUSE]
    if not reused:
        raise InputError(f"--analysis={NAME} needs a run of --method={REUSE} in --logdir")
    changes = vars(AdaptabilityOptions(**outer))
    depths = sorted({series.config.num_plastic_layers for series in given} - {1}) or [DEFAULT_DEPTH]
    # By label: the series that a control was made from, and the control of a plastic one.
    origins: dict[str, Series] = {}
    adapted = []
    for series in reused:
        control, *plastic = (adapt(series, depth, output, changes) for depth in (1, *depths))
        origins |= {control.label: series, **{one.label: control for one in plastic}}
        adapted += [control, *plastic]
    every = sorted([*given, *adapted], key=lambda series: series.config.num_plastic_layers)
    errors = {series.label: errors_after_lifetime(series, lifetimes=lifetimes, seed=seed)[:, None] for series in every}
    curves = []
    for series in every:
        origin = origins.get(series.label)
        baseline = None if origin is None else Baseline(origin.label, errors[origin.label])
        shared = {"quantity": "error", "unit": series.task.unit, "x": [series.config.num_plastic_layers]}
        curves.append(Curve(series, panel=PANEL, values=errors[series.label], baseline=baseline, **shared))
    figure = figures.points(curves, "plastic layers", [PANEL])
    return save(NAME, output, curves, figure, "plastic_layers", "tested", runs=runs)


def adapt(series: Series, depth: int, output: Path, outer: Mapping[str, Any]) -> Series:
    """Meta-trains feedback and plasticity of every network of a series, with frozen forward weights.

    Args:
        series: feature-reuse networks.
        depth: plastic layers after adaptation; 1 is the control.
        output: folder for the run directories `<run's folder>_<method><depth>_<fingerprint>`.
        outer: values of `AdaptabilityOptions`.

    Returns:
        The adapted networks.
    """
    adapted = []
    for run in series.runs:
        config = adapted_config(run.config, depth, outer)
        learner = frozen_copy(run, config)
        name = f"{run.path.name}_{config.method}{depth}_{fingerprint(run, config)}"
        directory = RunDirectory(output / name, "output")
        check_no_link(directory.path, output, "output")
        trainer = training.make_trainer(config, run.task, learner)
        with directory.claimed(config):
            training.train(trainer, Evaluator(learner, run.task, config.jit_compile), directory, config)
        adapted.append(Run(directory.path, config, run.task, learner))
    gained = f"plasticity ({depth})" if depth > 1 else "lifetimes"
    return Series(f"{series.label} + {gained}", tuple(adapted), series.variant + 1)


def adapted_config(config: Config, depth: int, outer: Mapping[str, Any]) -> Config:
    """Returns the configuration of an adapted feature-reuse run; see `adapt` for the arguments."""
    changes = {flag: value for flag, value in outer.items() if value != AS_TRAINED}
    steps = changes.get("episodes", config.episodes) // config.meta_batch
    changes["warmup_steps"] = min(changes["warmup_steps"], steps)
    method = PLASTIC if depth > 1 else REUSE
    return config.replace(method=method, num_plastic_layers=depth, curriculum="", **changes)


def fingerprint(run: Run, config: Config) -> str:
    """Returns a hash that distinguishes an adaptation from those of other weights or options."""
    digest = hashlib.sha256(repr(identity(config)).encode())
    for path, weight in run.learner.variables.items():
        digest.update(path.encode() + weight.value.numpy().tobytes())
    return digest.hexdigest()[:8]


def frozen_copy(run: Run, config: Config) -> Learner:
    """Returns a learner with a run's weights and frozen slow weights.

    Args:
        run: a network.
        config: of the learner: that of the run, with as many plastic layers or more. New plastic layers have
            freshly initialized plasticity and feedback.
    """
    learner = learners.build(config, run.task)
    weights = learner.variables
    for path, weight in run.learner.variables.items():
        weights[path].assign(weight)
    for weight in learner.groups()["slow"].values():
        weight.trainable = False
    return learner
