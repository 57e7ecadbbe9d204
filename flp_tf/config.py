"""The configuration of a run: absl flags made from one frozen dataclass.

A field is a flag. Fields that are None mean "the paper's value for this task" and are
filled in by `resolve`. Fields marked as options do not change what is learned (how
often to evaluate, how to compile, where data lie) and may differ when a run goes on.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any

from absl import flags

from flp_tf.feedback import FEEDBACK
from flp_tf.layers.base import GRANULARITIES
from flp_tf.learners import METHODS
from flp_tf.learners.local import PRESYNAPTIC, SIGNALS
from flp_tf.networks.architectures import ARCHITECTURES
from flp_tf.plasticity import RULES
from flp_tf.tasks import TASKS

SCHEDULES = ("constant", "cosine")
DISTRIBUTIONS = ("none", "mirrored", "multi_worker")
PRECISIONS = ("float32", "bfloat16")


def _field(
    default: Any,
    text: str,
    legal: Any = None,
    option: bool = False,
    least: float = -math.inf,
    most: float = math.inf,
):
    metadata = {"help": text, "legal": legal, "option": option, "least": least, "most": most}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a run depends on. See `--help` for the fields."""

    # Task (paper, section 5).
    task: str = _field("sine", "What is learned in a lifetime.", TASKS)
    continual: bool = _field(False, "Sine after sine (class after class) instead of i.i.d. order.")
    lifetime: int | None = _field(None, "Inner steps of a lifetime (sine: 400, a multiple of the sines).", least=1)
    batch_size: int | None = _field(None, "Examples of an inner step (sine: 32).", least=1)
    query_size: int | None = _field(None, "Query examples of each sine or class.", least=1)
    num_sines: int = _field(10, "Sines of a lifetime.", least=1)
    ways: int = _field(5, "Classes of a lifetime.", least=2)
    shots: int = _field(5, "Support examples of each class.", least=1)
    image_size: int | None = _field(None, "Height and width that images are scaled to (84).", least=8)
    rotations: bool = _field(False, "Add meta-training classes rotated by 90, 180 and 270 degrees.")
    mirrors: bool = _field(False, "Add mirror images of meta-training classes as classes.")
    distortion: float = _field(0.0, "Turn, scale and shift meta-training images at random, by up to this.", least=0)
    data_dir: str = _field("~/tensorflow_datasets", "Where datasets and decoded images are cached.", option=True)
    omniglot_archives: str = _field("", "Folder with official Omniglot archives, instead of a download.", option=True)
    meta_test_alphabets: tuple[str, ...] = _field((), "Alphabets kept for meta-test with --omniglot_archives.")
    mini_imagenet_dir: str = _field("", "Folder with {train,val,test}.csv and images/.", option=True)

    # Network.
    network: str | None = _field(None, "Name of an architecture, or hidden layers such as 300-300.", ARCHITECTURES)
    num_plastic_layers: int | None = _field(None, "Plastic layers, from the output down (feature_reuse: 1, else 2).")
    trunk_precision: str = _field("float32", "Arithmetic of the trunk; fast weights are float32.", PRECISIONS)

    # Method: the inner update (paper, sections 3 and 5).
    method: str = _field("flp", "How the network changes on an inner step.", METHODS)
    rule: str = _field("oja", "Local plasticity rule.", RULES)
    granularity: str = _field("per_synapse", "Plasticity per synapse, neuron or layer.", GRANULARITIES)
    plasticity_scale: float | None = _field(None, "alpha = plasticity_scale * a, of which a is meta-learned.")
    hidden_plasticity_factor: float | None = _field(None, "Further factor of alpha in hidden layers.")
    plasticity_init: float = _field(0.0, "Initial a of hidden layers (flp, dfa).")
    output_plasticity_init: float = _field(0.0, "Initial a of the output layer (flp, feature_reuse, dfa).")
    feedback: str = _field("direct", "Feedback pathway.", FEEDBACK)
    feedback_signal: str | None = _field(None, "What is fed back: the error or the target.", SIGNALS)
    feedback_activation: str = _field("relu", "Activation of the feedback pathway.", ("relu", "linear"))
    feedback_units: tuple[int, ...] = _field((), "Hidden layers of the feedback pathway, such as 100,100.", least=1)
    feedback_strength: float = _field(0.5, "Initial beta.")
    clamp_output: bool | None = _field(None, "Whether the output's post-feedback activity is the target.")
    presynaptic: str = _field("pre_feedback", "Presynaptic activity in updates.", PRESYNAPTIC)
    second_order: bool = _field(True, "Whether gradient and oml differentiate through the inner gradient.")
    inner_rate: float | None = _field(None, "Rate of oml, initial rate of gradient.", least=0)

    # Outer loop.
    episodes: int | None = _field(None, "Lifetimes of meta-training.", least=1)
    meta_batch: int = _field(1, "Lifetimes of one outer step.", least=1)
    curriculum: str = _field("", "Shorter lifetimes at first, as LENGTH:EPISODES,..., such as 40:2000,100:4000.")
    slow_rate: float = _field(1e-4, "Adam's rate for W and b.", least=0)
    feedback_rate: float = _field(1e-4, "Adam's rate for B and c.", least=0)
    plasticity_rate: float = _field(1e-4, "Adam's rate for a (that of alpha is plasticity_scale times it).", least=0)
    strength_rate: float = _field(1e-4, "Adam's rate for beta.", least=0)
    schedule: str = _field("constant", "Course of the rates over the episodes.", SCHEDULES)
    warmup_steps: int = _field(0, "Outer steps over which the rates rise linearly from 0.", least=0)
    clip_norm: float = _field(0.0, "Clip each group's meta-gradient to this norm; 0 leaves it.", least=0)
    max_skipped: int = _field(20, "Stop after this many non-finite meta-gradients in a row.", option=True, least=1)
    seed: int = _field(0, "Seed of the initial weights and of all episodes.", least=0, most=2**31 - 1)

    # Engine and reporting.
    segment_length: int = _field(
        0,
        "Inner steps between kept states, --lifetime for most speed; 0: automatic, -1: by plain automatic "
        "differentiation.",
        option=True,
        least=-1,
    )
    jit_compile: bool = _field(True, "Compile lifetimes with XLA.", option=True)
    distribution: str = _field("none", "Devices that share a meta-batch.", DISTRIBUTIONS, option=True)
    log_every: int = _field(50, "Outer steps between two points in TensorBoard.", option=True, least=1)
    eval_every: int = _field(1000, "Lifetimes between two evaluations on unseen data.", option=True, least=1)
    eval_episodes: int = _field(50, "Lifetimes of the meta-test.", option=True, least=1)
    eval_lifetime_scale: int = _field(1, "Evaluate on lifetimes this many times as long.", option=True, least=1)
    checkpoint_minutes: float = _field(2.0, "Minutes between two checkpoints.", option=True, least=0)

    def resolve(self) -> "Config":
        """Returns a copy with the task's defaults filled in and every value checked.

        Raises:
            ValueError: naming the flag and its legal values.
        """
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        values = {k: v for k, v in TASKS[self.task].defaults.items() if getattr(self, k) is None}
        if self.num_plastic_layers is None:
            values["num_plastic_layers"] = 1 if self.method == "feature_reuse" else 2
        elif self.method == "feature_reuse" and self.num_plastic_layers != 1:
            raise ValueError(
                f"--num_plastic_layers={self.num_plastic_layers} does not go with --method=feature_reuse; "
                "the legal value is 1"
            )
        return dataclasses.replace(self, **values)

    def phases(self) -> list[tuple[int, "Config"]]:
        """Returns `(first episode, configuration)` of each part of the curriculum.

        Raises:
            ValueError: if `--curriculum` does not read.
        """
        phases, start = [], 0
        for part in filter(None, self.curriculum.split(",")):
            length, colon, episodes = part.partition(":")
            if not (colon and length.isdigit() and episodes.isdigit()):
                raise ValueError(
                    f"--curriculum={self.curriculum} does not read; legal is LENGTH:EPISODES,..., such as 40:2000"
                )
            phases.append((start, dataclasses.replace(self, lifetime=int(length)).resolve()))
            start += int(episodes)
        return [*phases, (start, self)]

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as they stand in `config.json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """Returns the configuration of a `config.json`."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in names})

    def differences(self, other: "Config") -> list[str]:
        """Returns `--flag=mine (the run has theirs)` for all that makes another run."""
        lines = []
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if not field.metadata["option"] and mine != theirs:
                lines.append(f"--{field.name}={mine} (the run has {theirs})")
        return lines


def _check(field: dataclasses.Field, value: Any) -> None:
    """Raises ValueError unless `value` is legal for the flag `field`."""
    legal, least, most = (field.metadata[name] for name in ("legal", "least", "most"))
    if legal is not None and legal is not ARCHITECTURES and value is not None and value not in legal:
        raise ValueError(f"--{field.name}={value} is unknown; legal values: {', '.join(sorted(legal))}")
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, (int, float)):
            continue
        if not math.isfinite(number):
            raise ValueError(f"--{field.name}={number} is not a finite number")
        if number < least:
            raise ValueError(f"--{field.name}={number} is too small; legal values are {least:g} or more")
        if number > most:
            raise ValueError(f"--{field.name}={number} is too large; legal values are {most} or less")


def _kind(field: dataclasses.Field) -> Any:
    """Returns the type of a flag: its annotation without `| None`."""
    hint = typing.get_type_hints(Config)[field.name]
    choices = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    return choices[0] if type(None) in typing.get_args(hint) else hint


def define_flags() -> None:
    """Defines one absl flag for each field of `Config`."""
    define = {
        bool: flags.DEFINE_boolean,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }
    for field in dataclasses.fields(Config):
        text, kind = field.metadata["help"], _kind(field)
        if field.metadata["legal"] is not None:
            text += f" One of: {', '.join(field.metadata['legal'])}."
        if field.default is None:
            text += " Default: the paper's for the task."
        if kind in define:
            define[kind](field.name, field.default, text)
        else:
            flags.DEFINE_list(field.name, list(field.default), text)


def from_flags(values: flags.FlagValues) -> Config:
    """Returns the resolved configuration that the command line describes.

    Raises:
        ValueError: naming a flag and its legal values.
    """
    return Config(**given(values, only_present=False)).resolve()


def given(values: flags.FlagValues, only_present: bool = True) -> dict[str, Any]:
    """Returns the fields that the command line (or a flagfile) sets.

    Raises:
        ValueError: naming a flag and its legal values.
    """
    found = {}
    for field in dataclasses.fields(Config):
        if only_present and not values[field.name].present:
            continue
        value, kind = values[field.name].value, _kind(field)
        if typing.get_origin(kind) is tuple:
            value = _read_tuple(field.name, value, typing.get_args(kind)[0])
        _check(field, value)
        found[field.name] = value
    return found


def _read_tuple(name: str, items: list[str], kind: type) -> tuple:
    try:
        return tuple(kind(item) for item in items)
    except ValueError:
        raise ValueError(f"--{name}={','.join(items)} does not read; legal is a list of {kind.__name__}") from None
