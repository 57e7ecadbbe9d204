"""What a run leaves in its directory, and the modes that read it."""

import dataclasses
import json
import math
import re
import shutil

import commands
import pytest
from commands import contents, meta_test

from flp_tf.config import Config

META_TEST = {"mean": float, "stderr": float, "episodes": int}


def test_config_json_holds_everything_needed_to_repeat_the_run(finished_run, tmp_path):
    config = json.loads((finished_run.path / "config.json").read_text())
    names = [field.name for field in dataclasses.fields(Config)]
    assert list(config) == [*names, "versions"]
    assert set(config["versions"]) == {"flp_tf", "python", "tensorflow", "keras", "numpy"}
    # The paper's values that no flag gave are written out.
    assert config["feedback_signal"] == "error" and config["num_plastic_layers"] == 2
    arguments = [
        f"--{name}={','.join(value) if isinstance(value, list) else value}"
        for name, value in config.items()
        if name in names and value is not None
    ]
    commands.run(*arguments, f"--logdir={tmp_path / 'run'}")
    again = json.loads((tmp_path / "run" / "config.json").read_text())
    assert again == config
    assert meta_test(tmp_path / "run" / "result.json") == meta_test(finished_run.path / "result.json")


def check_statistics(content: dict, episodes: int) -> None:
    """Checks the part that `result.json` and `evaluation.json` share."""
    assert {name: type(value) for name, value in content["meta_test"].items()} == META_TEST
    assert content["meta_test"]["episodes"] == episodes
    assert len(content["per_sine"]) == 2
    for row in (content["meta_test"], content["before_lifetime"], *content["per_sine"]):
        assert math.isfinite(row["mean"]) and row["mean"] > 0 and row["stderr"] > 0
    mean = sum(row["mean"] for row in content["per_sine"]) / 2
    assert mean == pytest.approx(content["meta_test"]["mean"], rel=1e-6)


def test_result_json(finished_run):
    result = json.loads((finished_run.path / "result.json").read_text())
    promised = {"task": "sine", "continual": True, "method": "flp", "num_plastic_layers": 2, "episodes": 6, "seed": 0}
    assert {name: result[name] for name in promised} == promised
    assert set(result) == {
        *promised,
        "meta_test",
        "per_sine",
        "before_lifetime",
        "eval_lifetime_scale",
        "machine",
        "minutes",
        "second_order",
        "skipped_steps",
    }
    check_statistics(result, 4)


def test_run_directory_holds_what_is_promised(finished_run):
    names = {path.name.split(".tfevents")[0] for path in finished_run.path.iterdir()}
    assert names == {"config.json", "result.json", "checkpoints", "export", "events.out"}


def test_evaluate_repeats_the_meta_test_without_flags(run_copy, capsys):
    others = contents(run_copy)
    commands.run("--mode=evaluate", f"--logdir={run_copy}")
    out = capsys.readouterr().out
    evaluation = json.loads((run_copy / "evaluation.json").read_text())
    result = json.loads((run_copy / "result.json").read_text())
    of_run = ("task", "continual", "method", "num_plastic_layers", "second_order", "eval_lifetime_scale", "seed")
    assert set(evaluation) == {*of_run, "episodes", "minutes", "meta_test", "before_lifetime", "per_sine"}
    for name in evaluation:
        assert evaluation[name] == result[name], name
    assert contents(run_copy) == others | {"evaluation.json": (run_copy / "evaluation.json").read_bytes()}
    assert re.search(rf"after lifetime +{result['meta_test']['mean']:.4g} ", out)
    assert re.search(r"sine 2 +\d", out)


def test_evaluate_takes_seed_episodes_and_options(run_copy):
    flags = ["--seed=1", "--eval_episodes=5", "--eval_lifetime_scale=2", "--log_every=7"]
    commands.run("--mode=evaluate", *flags, f"--logdir={run_copy}")
    evaluation = json.loads((run_copy / "evaluation.json").read_text())
    check_statistics(evaluation, 5)
    assert evaluation["seed"] == 1 and evaluation["eval_lifetime_scale"] == 2
    assert evaluation["before_lifetime"] != json.loads((run_copy / "result.json").read_text())["before_lifetime"]


def test_evaluate_and_export_an_interrupted_run(interrupted_run, tmp_path, capsys):
    path = shutil.copytree(interrupted_run, tmp_path / "run")
    assert not (path / "result.json").exists() and not (path / "export").exists()
    commands.run("--mode=evaluate", f"--logdir={path}")
    check_statistics(json.loads((path / "evaluation.json").read_text()), 4)
    commands.run("--mode=export", f"--logdir={path}")
    assert (path / "export" / "saved_model.pb").exists()
    assert f"SavedModel: {path}/export" in capsys.readouterr().out


def test_evaluate_in_a_real_process_prints_the_table_and_nothing_else(run_copy):
    process = commands.start("--mode=evaluate", f"--logdir={run_copy}")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[0] == "Meta-test of flp(2) on sine, continual: 4 lifetimes of unseen data"
    assert len(out.splitlines()) == 6
    assert meta_test(run_copy / "evaluation.json") == meta_test(run_copy / "result.json")
