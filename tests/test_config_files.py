"""Configurations as files, and how they differ."""

import copy
import dataclasses
import json
import pickle

import pytest
from every_option import OPTIONS, example, name_of

from flp_tf.errors import InputError
from flp_tf.learners import METHODS
from flp_tf.registry import option
from flp_tf.runs.config import Config, configure
from flp_tf.runs.recipes import PAPER, RECIPES
from flp_tf.runs.sections import FIXED, component, places
from flp_tf.tasks import TASKS, Sine


def test_differences():
    """What makes another run is named with both values; incidental options make none."""
    config = configure(recipe="paper")
    assert config.differences(config) == []
    incidental = {"log_every", "segment_length", "jit_compile", "eval_episodes"}
    assert incidental <= set(config.flags_with("incidental"))
    other = config.replace(**dict.fromkeys(incidental - {"jit_compile"}, 7), jit_compile=False)
    assert config.differences(other) == []
    other = config.replace(seed=3, network="9-9", log_every=9, feedback_units=(4, 5))
    assert sorted(config.differences(other)) == [
        "--feedback_units= (the run has 4,5)",
        "--network=sine_paper (the run has 9-9)",
        "--seed=0 (the run has 3)",
    ]


@pytest.mark.parametrize("place, given", OPTIONS, ids=name_of)
def test_every_option_that_is_not_incidental_makes_another_run(place, given):
    config = configure(**given, curriculum="")
    other = config.replace(**{place.flag: example(place)})
    grown = place.field.metadata["extensible"] and getattr(config, place.flag) > getattr(other, place.flag)
    if place.field.metadata["incidental"] or config == other or grown:
        assert config.differences(other) == []
    else:
        (line,) = config.differences(other)
        assert line.startswith(f"--{place.flag}=") and "(the run has " in line


def test_another_component_makes_another_run():
    assert configure(method="flp").differences(configure(method="dfa")) == ["--method=flp (the run has dfa)"]
    lines = configure(task="sine").differences(configure(task="omniglot"))
    assert "--task=sine (the run has omniglot)" in lines


def test_a_recipe_alone_makes_no_other_run(monkeypatch):
    monkeypatch.setitem(RECIPES._components, "same", PAPER)
    assert configure(recipe="paper").differences(configure(recipe="same")) == []


def test_replace_keeps_what_was_given():
    """Other components bring options of their own; what does not go with them is left out, unless it is new."""
    config = configure(method="flp", rule="hebb", seed=5, lifetime=40)
    assert config.replace(method="gradient") == configure(method="gradient", seed=5, lifetime=40)
    assert configure().replace(task="omniglot") == configure(task="omniglot")
    with pytest.raises(InputError, match="^--rule does not go with --method=gradient"):
        config.replace(method="gradient", rule="hebb")
    # Of a file all is given.
    loaded = Config.from_dict(configure(method="feature_reuse").to_dict())
    assert loaded.replace(method="flp").num_plastic_layers == 1


def test_attributes():
    config = configure(task="omniglot")
    assert config.ways == 5 and getattr(config, "lifetime", None) is None
    with pytest.raises(AttributeError, match="a configuration with .*--task=omniglot.* has no lifetime"):
        config.lifetime  # noqa: B018
    with pytest.raises(KeyError):
        configure(method="oml").choice("rule")
    assert copy.deepcopy(config) == config == pickle.loads(pickle.dumps(config)) and hash(config) == hash(
        configure(task="omniglot")
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 3


def test_the_task_of_a_configuration():
    task = configure(num_sines=2, lifetime=8, continual=True).make_task()
    assert isinstance(task, Sine) and (task.num_concepts, task.steps, task.continual) == (2, 8, True)
    with pytest.raises(InputError, match="^--lifetime=9 "):
        configure(num_sines=2, lifetime=9).make_task()


def test_json_round_trip():
    """Through `config.json` and back, with lists as tuples."""
    config = configure(feedback_units=(100, 50), slow_rate=3e-4)
    assert Config.from_dict(json.loads(json.dumps({**config.to_dict(), "versions": {"flp_tf": "0.2.0"}}))) == config
    config = configure(task="omniglot", meta_test_alphabets=("Greek",))
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "change, line",
    [
        ({"epsodes": 4}, "epsodes is an unknown field; did you mean episodes"),
        ({"ways": 4}, "--ways does not go with --task=sine"),
        ({"jit_compile": "false"}, "--jit_compile='false' is not of the right type; legal is true or false"),
        ({"episodes": "4"}, "--episodes='4' is not of the right type; legal is an integer"),
        ({"feedback_units": ["4"]}, r"--feedback_units=\('4',\) is not of the right type"),
        ({"lifetime": None}, "--lifetime=None is not of the right type"),
        ({"task": "cosine"}, "--task=cosine is unknown; legal values: .*sine"),
        ({"task": ["sine"]}, r"--task=\['sine'\] is not of the right type"),
        ({"versions": {"flp_tf": "7.1.0"}}, "flp_tf 7.1.0 wrote it, this is flp_tf "),
        ({"versions": 3}, "the field versions does not read"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(change, line):
    with pytest.raises(InputError, match=f"^{line}") as error:
        Config.from_dict({**configure().to_dict(), **change})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [{}, {"method": "flp"}, {"task": "sine"}, {"versions": {}}])
def test_missing_fields(content):
    with pytest.raises(InputError, match="^the field (task|method) is missing$"):
        Config.from_dict(content)


# `flp_tf/pretrained/sine_continual_flp2/config.json` as flp_tf 0.1.0 wrote it.
OF_0_1 = {
    "task": "sine",
    "continual": True,
    "lifetime": 400,
    "batch_size": 32,
    "query_size": 64,
    "num_sines": 10,
    "ways": 5,
    "shots": 5,
    "image_size": None,
    "rotations": False,
    "data_dir": "~/tensorflow_datasets",
    "omniglot_archives": "",
    "meta_test_alphabets": [],
    "mini_imagenet_dir": "",
    "network": "sine_compact",
    "num_plastic_layers": 2,
    "trunk_precision": "float32",
    "method": "flp",
    "rule": "oja",
    "granularity": "per_synapse",
    "plasticity_scale": 0.001,
    "hidden_plasticity_factor": 1.0,
    "plasticity_init": 0.0,
    "output_plasticity_init": 0.0,
    "feedback": "direct",
    "feedback_signal": "error",
    "feedback_activation": "relu",
    "feedback_units": [],
    "feedback_strength": 0.5,
    "clamp_output": False,
    "presynaptic": "pre_feedback",
    "second_order": True,
    "inner_rate": 0.003,
    "episodes": 27000,
    "meta_batch": 1,
    "curriculum": "100:20000,200:4000",
    "slow_rate": 0.001,
    "feedback_rate": 0.001,
    "plasticity_rate": 0.001,
    "strength_rate": 0.001,
    "schedule": "cosine",
    "warmup_steps": 0,
    "clip_norm": 1.0,
    "max_skipped": 20,
    "seed": 0,
    "segment_length": 0,
    "jit_compile": True,
    "distribution": "none",
    "log_every": 50,
    "eval_every": 2000,
    "eval_episodes": 50,
    "eval_lifetime_scale": 1,
    "checkpoint_minutes": 2.0,
    "versions": {"flp_tf": "0.1.0", "python": "3.11.7", "tensorflow": "2.21.0", "keras": "3.15.1", "numpy": "2.4.6"},
}


@pytest.mark.parametrize("versions", [OF_0_1["versions"], None])
@pytest.mark.parametrize("method", METHODS)
def test_files_of_flp_tf_0_1_are_converted(method, versions):
    """They held the options of all components; those that had no effect are left out, all others stay."""
    content = {**OF_0_1, "method": method, "num_plastic_layers": 1}
    content = content | {"versions": versions} if versions else {k: v for k, v in content.items() if k != "versions"}
    config = Config.from_dict(content)
    assert not hasattr(config, "ways") and hasattr(config, "rule") == (
        method in ("flp", "feature_reuse", "dfa", "recurrent")
    )
    for flag in config.to_dict().keys() & content.keys():
        assert config.to_dict()[flag] == content[flag]
    assert (config.initial, config.estimator, config.slow_optimizer) == ("fixed", "backprop", "adam")
    assert Config.from_dict(config.to_dict()) == config


def test_rates_that_had_no_effect_are_left_out():
    """Files held the rates of all groups once."""
    config = configure(method="oml", num_plastic_layers=1)
    assert Config.from_dict({**config.to_dict(), "feedback_rate": 3.0, "rule_optimizer": "lion"}) == config


def test_unknown_fields_of_old_files_are_refused():
    with pytest.raises(InputError, match="^lr is an unknown field"):
        Config.from_dict({**OF_0_1, "lr": 3})


def test_options_of_one_name(monkeypatch):
    """Components may share an option if its type is the same; chosen together they may not."""

    def sine_with(field) -> type:
        options = dataclasses.make_dataclass("Options", [field], bases=(Sine.Options,), frozen=True)
        return type("Other", (Sine,), {"Options": options})

    monkeypatch.setitem(TASKS._components, "other", sine_with(("ways", int, option(3, "Of its own."))))
    assert configure(task="other", ways=4).ways == 4
    monkeypatch.setitem(TASKS._components, "other", sine_with(("ways", str, option("3", "Of another type."))))
    with pytest.raises(InputError, match=r"^--ways is an option of --task=\w+ and of --task=\w+ with different types$"):
        places()
    for taken in ("seed", "inner_rate", "rule", "differences"):
        monkeypatch.setitem(TASKS._components, "other", sine_with((taken, float, option(3.0, "Taken."))))
        with pytest.raises(InputError, match=f"^--{taken} "):
            configure(task="other", method="gradient" if taken == "inner_rate" else "flp")


def test_components_are_looked_up_by_name():
    assert component("task", "sine") is Sine
    assert set(FIXED) == {"outer", "engine", "run"}


def test_more_lifetimes_go_on_and_fewer_do_not():
    config = configure(episodes=100)
    assert configure(episodes=101).differences(config) == []
    assert configure(episodes=99).differences(config) == ["--episodes=99 (the run has 100)"]
