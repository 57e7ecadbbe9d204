"""What a run leaves in its directory, the modes that read it, and who may write there."""

import json
import math
import re
import shutil
import subprocess
import sys

import commands
import pytest
from commands import ROOT, SHORT, contents, meta_test

import flp_tf
from flp_tf.meta.trainer import Trainer
from flp_tf.runs import training
from flp_tf.runs.config import Config
from flp_tf.runs.directory import RunDirectory
from flp_tf.runs.labels import label

pytestmark = pytest.mark.slow

META_TEST = {"mean": float, "stderr": float, "episodes": int}
OF_RUN = ("task", "continual", "method", "num_plastic_layers", "eval_lifetime_scale", "seed")


def test_config_json_holds_everything_needed_to_repeat_the_run(finished_run, tmp_path, monkeypatch):
    """As flags its values make the same `config.json`; that a run of it is the same, the Python call below shows."""

    def ends(trainer):
        raise KeyboardInterrupt

    config = json.loads((finished_run.path / "config.json").read_text())
    values = {name: value for name, value in config.items() if name != "versions"}
    assert Config.from_dict(config).to_dict() == values
    assert set(config["versions"]) == {"flp_tf", "python", "tensorflow", "keras", "numpy"}
    # The paper's values that no flag gave are written out.
    assert config["feedback_signal"] == "error" and config["num_plastic_layers"] == 2
    # An empty folder is none, which a flag cannot say.
    asked = {name: value for name, value in values.items() if value != ""}
    arguments = [f"--{name}={','.join(value) if isinstance(value, list) else value}" for name, value in asked.items()]
    monkeypatch.setattr(Trainer, "outer_step", ends)
    with pytest.raises(SystemExit):
        commands.run(*arguments, f"--logdir={tmp_path / 'run'}")
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == config


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
        "skipped_steps",
    }
    check_statistics(result, 10)


def test_run_directory_holds_what_is_promised(finished_run):
    names = {path.name.split(".tfevents")[0] for path in finished_run.path.iterdir()}
    assert names == {"config.json", "result.json", "checkpoints", "export", "events.out"}


def test_result_json_comes_last(eager, monkeypatch, tmp_path):
    """What is killed before it leaves no finished run behind."""

    def killed(learner, path, label):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "export", killed)
    short = (*SHORT, "--episodes=1")
    with pytest.raises(SystemExit):
        commands.run(*short, f"--logdir={tmp_path / 'run'}")
    assert not (tmp_path / "run" / "result.json").exists()
    monkeypatch.undo()
    commands.run(*short, f"--logdir={tmp_path / 'run'}")
    assert (tmp_path / "run" / "result.json").exists() and (tmp_path / "run" / "export" / "saved_model.pb").exists()


def test_evaluate_repeats_the_meta_test_without_flags(run_copy, capsys):
    others = contents(run_copy)
    commands.run("--mode=evaluate", f"--logdir={run_copy}")
    out = capsys.readouterr().out
    evaluation = json.loads((run_copy / "evaluation.json").read_text())
    result = json.loads((run_copy / "result.json").read_text())
    assert evaluation.pop("run") == label(RunDirectory(run_copy).config())
    assert set(evaluation) == {*OF_RUN, "episodes", "minutes", "meta_test", "before_lifetime", "per_sine"}
    for name in evaluation:
        assert evaluation[name] == result[name], name
    assert contents(run_copy) == others | {"evaluation.json": (run_copy / "evaluation.json").read_bytes()}
    assert re.search(rf"after lifetime +{result['meta_test']['mean']:.4g} ", out)
    assert re.search(r"sine 2 +\d", out)


def test_evaluate_takes_seed_episodes_and_options(run_copy, eager):
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
    content = json.loads((path / "evaluation.json").read_text())
    check_statistics(content, 10)
    assert content["episodes"] == 3
    commands.run("--mode=export", f"--logdir={path}")
    assert (path / "export" / "saved_model.pb").exists()
    assert f"SavedModel: {path}/export" in capsys.readouterr().out


def test_evaluate_in_a_real_process_prints_the_table_and_nothing_else(run_copy):
    process = commands.start("--mode=evaluate", f"--logdir={run_copy}")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[0] == "Meta-test of flp(2) on sine, continual: 10 lifetimes of unseen data"
    assert len(out.splitlines()) == 6
    assert meta_test(run_copy / "evaluation.json") == meta_test(run_copy / "result.json")


def test_the_python_call_is_the_command_line_without_its_output(finished_run, bare, tmp_path, capsys):
    config = RunDirectory(finished_run.path).config()
    run = flp_tf.meta_train(config, tmp_path / "run", progress=False)
    assert capsys.readouterr() == ("", "")
    assert run.path == tmp_path / "run" and run.config == config
    assert run.result()["meta_test"] == meta_test(finished_run.path / "result.json")
    again = flp_tf.load(run.path)
    for path, weight in run.learner.variables.items():
        assert again.learner.variables[path].numpy().tobytes() == weight.numpy().tobytes()
    assert run.progress()["episodes"] == again.progress()["episodes"] == 6


def test_importing_the_library_does_not_load_tensorflow():
    code = "import sys, flp_tf; print(flp_tf.__version__, 'tensorflow' in sys.modules, sorted(dir(flp_tf)))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.match(r"\d+\.\d+\.\d+ False .*'configure'.*'load'.*'meta_train'", answer)
