"""Configuration: defaults by task, checks of every field, flags, and what makes another run."""

import dataclasses
import json
import math

import pytest
from absl import flags
from absl.testing import flagsaver

from flp_tf import config as configuration
from flp_tf import main
from flp_tf.config import Config
from flp_tf.networks import ARCHITECTURES
from flp_tf.tasks import TASKS

FIELDS = {field.name: field for field in dataclasses.fields(Config)}
CHOICES = [name for name, field in FIELDS.items() if field.metadata["legal"] not in (None, ARCHITECTURES)]
BOUNDED_BELOW = [name for name, field in FIELDS.items() if field.metadata["least"] > -math.inf]
FLOATS = [name for name, field in FIELDS.items() if "float" in str(field.type)]


@pytest.mark.parametrize("task", TASKS)
def test_resolve_fills_in_the_task_s_defaults(task):
    """What is not said comes from the task, and what is said stays."""
    config = Config(task=task).resolve()
    for name, value in TASKS[task].defaults.items():
        assert getattr(config, name) == value
    assert config.num_plastic_layers == 2
    assert None not in (config.network, config.episodes, config.plasticity_scale, config.inner_rate)
    own = {"episodes": 3, "query_size": 7, "plasticity_scale": 0.5}
    assert dataclasses.replace(config, **own) == Config(task=task, **own).resolve()
    assert config.resolve() == config


def test_the_paper_is_the_default():
    config = Config().resolve()
    assert (config.task, config.method, config.episodes, config.lifetime) == ("sine", "flp", 20_000, 400)
    assert (config.batch_size, config.num_sines, config.network) == (32, 10, "sine_paper")
    assert (config.rule, config.granularity, config.feedback_signal, config.clamp_output) == (
        "oja",
        "per_synapse",
        "error",
        False,
    )
    rates = (config.slow_rate, config.feedback_rate, config.strength_rate)
    assert rates == (1e-4,) * 3 and config.plasticity_rate * config.plasticity_scale == pytest.approx(1e-8)


@pytest.mark.parametrize("name", CHOICES)
def test_unknown_choices(name):
    """Every flag with legal values refuses others, naming itself and all legal ones."""
    with pytest.raises(ValueError) as error:
        Config(**{name: "nonsense"}).resolve()
    assert str(error.value).startswith(f"--{name}=nonsense is unknown; legal values: ")
    for legal in FIELDS[name].metadata["legal"]:
        assert legal in str(error.value)


@pytest.mark.parametrize("name", BOUNDED_BELOW)
def test_too_small_numbers(name):
    """Every flag with a least value takes it and refuses less."""
    field = FIELDS[name]
    kind = tuple if "tuple" in str(field.type) else lambda items: items[0]
    least = field.metadata["least"]
    assert getattr(Config(**{name: kind([least])}).resolve(), name) == kind([least])
    with pytest.raises(ValueError, match=rf"^--{name}={least - 1} is too small; legal values are {least:g} or more$"):
        Config(**{name: kind([least - 1])}).resolve()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", FLOATS)
def test_numbers_that_are_none(name, value):
    with pytest.raises(ValueError, match=f"^--{name}={value} is not a finite number$"):
        Config(**{name: value}).resolve()


def test_every_number_of_things_has_a_least_value():
    """Whole numbers are counts; the only one that is checked elsewhere depends on the network."""
    counts = [name for name, field in FIELDS.items() if str(field.type) in ("<class 'int'>", "int", "int | None")]
    assert set(counts) - set(BOUNDED_BELOW) == {"num_plastic_layers"}


def test_too_large_seed():
    assert Config(seed=2**31 - 1).resolve().seed == 2**31 - 1
    with pytest.raises(ValueError, match="^--seed=2147483648 is too large; legal values are 2147483647 or less$"):
        Config(seed=2**31).resolve()


def test_feature_reuse_has_one_plastic_layer():
    assert Config(method="feature_reuse").resolve().num_plastic_layers == 1
    assert Config(method="feature_reuse", num_plastic_layers=1).resolve().num_plastic_layers == 1
    with pytest.raises(ValueError, match="^--num_plastic_layers=2 .* --method=feature_reuse; the legal value is 1$"):
        Config(method="feature_reuse", num_plastic_layers=2).resolve()


def test_phases():
    """A curriculum's parts start where the ones before end; the last is the run itself."""
    config = Config(curriculum="40:2000,100:4000").resolve()
    phases = config.phases()
    assert [(start, phase.lifetime) for start, phase in phases] == [(0, 40), (2000, 100), (6000, 400)]
    assert all(dataclasses.replace(phase, lifetime=400) == config for _, phase in phases)
    plain = Config().resolve()
    assert plain.phases() == [(0, plain)]


@pytest.mark.parametrize("text", ["40", "40:", ":40", "40:2000:3", "a:b", "-40:10", "40:2000;100:4000", "4.5:10"])
def test_curriculum_that_does_not_read(text):
    with pytest.raises(ValueError, match=f"^--curriculum={text} does not read; legal is LENGTH:EPISODES"):
        Config(curriculum=text).resolve().phases()


def test_curriculum_without_steps():
    with pytest.raises(ValueError, match="^--lifetime=0 is too small"):
        Config(curriculum="0:100").resolve().phases()


def test_differences():
    """What makes another run is named with both values; options make none."""
    config = Config().resolve()
    assert config.differences(config) == []
    options = {name: 7 for name, field in FIELDS.items() if field.metadata["option"]}
    assert {"log_every", "segment_length", "jit_compile", "eval_episodes"} <= set(options)
    assert config.differences(dataclasses.replace(config, **options)) == []
    other = dataclasses.replace(config, seed=3, network="9-9", log_every=9)
    assert sorted(config.differences(other)) == [
        "--network=sine_paper (the run has 9-9)",
        "--seed=0 (the run has 3)",
    ]


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if not field.metadata["option"]])
def test_every_other_field_makes_another_run(name):
    config = Config().resolve()
    (line,) = config.differences(dataclasses.replace(config, **{name: "other"}))
    assert line == f"--{name}={getattr(config, name)} (the run has other)"


def test_json_round_trip():
    """Through `config.json` and back; what it holds besides (versions) does no harm."""
    config = Config(feedback_units=(100, 50), meta_test_alphabets=("Greek",), slow_rate=3e-4).resolve()
    assert Config.from_dict(json.loads(json.dumps({**config.to_dict(), "versions": {}}))) == config


@pytest.fixture
def parse():
    """Returns a function that parses a command line."""

    def parse(*arguments):
        main.parse(["flp_tf", *arguments])
        return flags.FLAGS

    with flagsaver.flagsaver():
        yield parse


def test_flags_are_the_fields(parse):
    """Without flags, the defaults; with them, values of the fields' types."""
    assert configuration.from_flags(parse()) == Config().resolve()
    numbers = ("--lifetime=40", "--slow_rate=1e-3", "--feedback_units=8,9")
    config = configuration.from_flags(parse(*numbers, "--continual", "--network=7-7", "--nojit_compile"))
    expected = {"continual": True, "lifetime": 40, "slow_rate": 1e-3, "feedback_units": (8, 9), "network": "7-7"}
    assert config == Config(**expected, jit_compile=False).resolve()


def test_given_flags(parse):
    """Only what the command line says, so that it can be held against a run."""
    values = parse("--seed=0", "--feedback_units=8")
    assert configuration.given(values) == {"seed": 0, "feedback_units": (8,)}


def test_list_that_does_not_read(parse):
    with pytest.raises(ValueError, match="^--feedback_units=8,x does not read; legal is a list of int$"):
        configuration.from_flags(parse("--feedback_units=8,x"))
