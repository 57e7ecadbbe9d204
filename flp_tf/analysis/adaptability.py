"""Adaptability: can features meta-learned for reuse learn after all? (section 7.1)"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from flp_tf import learners
from flp_tf.analysis import figures
from flp_tf.analysis.readout import errors_after_lifetime
from flp_tf.analysis.result import Curve, Result, save
from flp_tf.analysis.runs import Run, Series, identity, in_series
from flp_tf.config import Config
from flp_tf.learners import FeedbackLearner
from flp_tf.meta.run_directory import RunDirectory
from flp_tf.meta.trainer import Trainer, train
from flp_tf.networks import Network

NAME = "adaptability"
DEFAULT_DEPTH = 2
METHODS = ("feature_reuse", "flp")
# What the flags of the outer loop are here, unless given. The features are trained already:
# at rates of 1e-3, which trained them, plasticity below the output diverges within 21 lifetimes.
GENTLE = {"plasticity_rate": 1e-4, "strength_rate": 1e-4, "warmup_steps": 100}
OUTER_FLAGS = ("episodes", "feedback_rate", *GENTLE, "clip_norm", "checkpoint_minutes")


class FrozenForward(FeedbackLearner):
    """FLP of which the outer loop moves feedback, plasticity and strength alone."""

    def parameter_groups(self) -> dict[str, list[keras.Variable]]:
        return {**super().parameter_groups(), "slow": []}


def analyze(runs: list[Run], output: Path, *, lifetimes: int, seed: int, **outer: Any) -> Result:
    """Adds plasticity to a feature-reuse network whose forward weights stay (section 7.1).

    The slow forward weights of each feature-reuse run are frozen; upstream layers get
    plasticity and feedback, and meta-training goes on with these (and the output's)
    alone. What results stands between feature reuse and FLP that was meta-learned from
    the start: the nearer to FLP, the less its features are FLP's own.

    The adapted networks have as many plastic layers as the given FLP runs (2 if there
    are none) and are run directories in the output folder, so that an interrupted
    analysis continues. They are meta-trained as the feature-reuse run was, without its
    curriculum and with the gentler outer steps of `GENTLE`.

    Args:
        runs: feature-reuse runs, and FLP runs to compare with.
        output: folder of the results.
        lifetimes: unseen lifetimes of each network.
        seed: of the lifetimes.
        **outer: fields of `OUTER_FLAGS` that go on otherwise, such as `episodes`.

    Raises:
        ValueError: if there is no feature-reuse run, or a run of another method.
        Interrupted: see `flp_tf.meta.trainer.train`.
        Diverged: see `flp_tf.meta.trainer.train`.
    """
    for run in runs:
        if run.config.method not in METHODS:
            raise ValueError(
                f"--analysis={NAME} compares {' and '.join(METHODS)}; --logdir={run.path} is {run.config.method}"
            )
    given = in_series(runs, NAME)
    reused = [series for series in given if series.config.method == "feature_reuse"]
    if not reused:
        raise ValueError(f"--analysis={NAME} needs a run of --method=feature_reuse in --logdir")
    depths = sorted({series.config.num_plastic_layers for series in given} - {1}) or [DEFAULT_DEPTH]
    adapted = [adapt(series, depth, output, GENTLE | outer) for series in reused for depth in depths]
    every = sorted([*given, *adapted], key=lambda series: series.config.num_plastic_layers)
    curves = [
        Curve(
            series,
            "error",
            series.task.unit,
            "after the lifetime",
            [series.config.num_plastic_layers],
            errors_after_lifetime(series, lifetimes=lifetimes, seed=seed)[:, None],
        )
        for series in every
    ]
    figure = figures.points(curves, "plastic layers", [curves[0].panel])
    return save(NAME, output, curves, figure, "plastic_layers", "tested")


def adapt(series: Series, depth: int, output: Path, outer: Mapping[str, Any]) -> Series:
    """Meta-trains upstream feedback and plasticity of every network of a series.

    Args:
        series: feature-reuse networks.
        depth: plastic layers after adaptation.
        output: folder for the run directories `<run's folder>_flp<depth>_<fingerprint>`.
        outer: fields of the configuration that go on otherwise.

    Returns:
        The adapted networks.
    """
    adapted = []
    for run in series.runs:
        changed = {"method": "flp", "num_plastic_layers": depth, "curriculum": ""}
        config = dataclasses.replace(run.config, **changed, **outer).resolve()
        learner = frozen_copy(run, config)
        directory = RunDirectory(str(output / f"{run.path.name}_flp{depth}_{fingerprint(run, config)}"))
        trainer = Trainer(config, run.task, learner)
        directory.claim(config)
        train(trainer, directory)
        adapted.append(Run(directory.path, config, run.task, learner))
    variant = series.variant + 1
    return Series(f"{series.label} + plasticity ({depth})", tuple(adapted), variant)


def fingerprint(run: Run, config: Config) -> str:
    """Returns what tells an adaptation from those of other weights or by other flags."""
    digest = hashlib.sha256(repr(identity(config)).encode())
    for weight in run.learner.network.weights:
        digest.update(weight.value.numpy().tobytes())
    return digest.hexdigest()[:8]


def frozen_copy(run: Run, config: Config) -> FrozenForward:
    """Returns the FLP learner of a configuration with a run's forward weights and output layer."""
    fresh = learners.build(config, run.task)
    source, target = run.learner.network, fresh.network
    for old, new in zip(_layers(source), _layers(target)):
        new.kernel.assign(old.kernel)
        new.bias.assign(old.bias)
    for old, new in zip(source.head[-1].weights, target.head[-1].weights):
        new.assign(old)
    return FrozenForward(target, fresh.signal, fresh.clamp_output, fresh.presynaptic)


def _layers(network: Network) -> list[keras.layers.Layer]:
    return [*network.trunk, *network.head]
