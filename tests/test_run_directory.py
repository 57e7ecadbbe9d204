"""What a run leaves in its directory, the modes that read it, and who may write there."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys

import commands
import pytest
from commands import ROOT, TINY, contents, meta_test

import flp_tf
from flp_tf.errors import InputError
from flp_tf.meta.trainer import Trainer
from flp_tf.runs import directory as directory_module
from flp_tf.runs import files, training
from flp_tf.runs.config import Config
from flp_tf.runs.directory import RunDirectory

META_TEST = {"mean": float, "stderr": float, "episodes": int}
OF_RUN = ("task", "continual", "method", "num_plastic_layers", "eval_lifetime_scale", "seed")


def refusal(*arguments) -> str:
    """Returns the one line in which a command line is refused."""
    with pytest.raises(SystemExit) as stopped:
        commands.run(*arguments)
    line = stopped.value.code
    assert isinstance(line, str) and line.startswith("flp_tf: ") and "\n" not in line
    return line


def test_config_json_holds_everything_needed_to_repeat_the_run(finished_run, tmp_path):
    config = json.loads((finished_run.path / "config.json").read_text())
    values = {name: value for name, value in config.items() if name != "versions"}
    assert Config.from_dict(config).to_dict() == values
    assert set(config["versions"]) == {"flp_tf", "python", "tensorflow", "keras", "numpy"}
    # The paper's values that no flag gave are written out.
    assert config["feedback_signal"] == "error" and config["num_plastic_layers"] == 2
    arguments = [f"--{name}={','.join(value) if isinstance(value, list) else value}" for name, value in values.items()]
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
        "skipped_steps",
    }
    check_statistics(result, 4)


def test_run_directory_holds_what_is_promised(finished_run):
    names = {path.name.split(".tfevents")[0] for path in finished_run.path.iterdir()}
    assert names == {"config.json", "result.json", "checkpoints", "export", "events.out"}


def test_result_json_comes_last(monkeypatch, tmp_path):
    """What is killed before it leaves no finished run behind."""

    def killed(learner, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "export", killed)
    with pytest.raises(SystemExit):
        commands.run(*TINY, f"--logdir={tmp_path / 'run'}")
    assert not (tmp_path / "run" / "result.json").exists()
    monkeypatch.undo()
    commands.run(*TINY, f"--logdir={tmp_path / 'run'}")
    assert (tmp_path / "run" / "result.json").exists() and (tmp_path / "run" / "export" / "saved_model.pb").exists()


def test_evaluate_repeats_the_meta_test_without_flags(run_copy, capsys):
    others = contents(run_copy)
    commands.run("--mode=evaluate", f"--logdir={run_copy}")
    out = capsys.readouterr().out
    evaluation = json.loads((run_copy / "evaluation.json").read_text())
    result = json.loads((run_copy / "result.json").read_text())
    assert set(evaluation) == {*OF_RUN, "episodes", "minutes", "meta_test", "before_lifetime", "per_sine"}
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
    content = json.loads((path / "evaluation.json").read_text())
    check_statistics(content, 4)
    assert content["episodes"] == 3
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


def test_the_python_call_is_the_command_line_without_its_output(finished_run, tmp_path, capsys):
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


@pytest.mark.parametrize("name", ["[1] a*b?", "back\\slash", "comma, ünï {x} %d"])
def test_any_name_of_a_folder_works(name, finished_run, tmp_path):
    path = tmp_path / name / "run"
    commands.run(*TINY, f"--logdir={path}")
    commands.run("--mode=evaluate", f"--logdir={path}")
    commands.run("--mode=export", f"--logdir={path}")
    expected = meta_test(finished_run.path / "result.json")
    assert meta_test(path / "evaluation.json") == meta_test(path / "result.json") == expected
    assert [child.name for child in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "--logdir= names no folder"),
        ("gs://bucket/run", "--logdir=gs://bucket/run is not a local folder"),
        ("~nobody_of_this_name/run", "--logdir=~nobody_of_this_name/run names the home of a user who does not exist"),
    ],
)
def test_paths_that_are_no_folder_are_refused(path, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refusal(*TINY, f"--logdir={path}")
    assert not list(tmp_path.iterdir())


def test_a_finished_run_without_its_checkpoints_is_not_trained_again(run_copy):
    shutil.rmtree(run_copy / "checkpoints")
    before = contents(run_copy)
    assert "holds a finished run (result.json) without its checkpoints" in refusal(*TINY, f"--logdir={run_copy}")
    assert contents(run_copy) == before


def test_a_folder_without_a_checkpoint_is_claimed_anew(finished_run, tmp_path, monkeypatch):
    """After a first step that failed, the corrected command is not another run."""

    def fails(trainer):
        raise RuntimeError

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(Trainer, "outer_step", fails)
        commands.run(*TINY, "--batch_size=5", f"--logdir={tmp_path / 'run'}")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["batch_size"] == 5
    commands.run(*TINY, f"--logdir={tmp_path / 'run'}")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["batch_size"] == 4
    assert meta_test(tmp_path / "run" / "result.json") == meta_test(finished_run.path / "result.json")
    assert len(list((tmp_path / "run").glob("events*"))) == 1, "the failed attempt's events are gone"


@pytest.mark.parametrize("content", ["{}", '{"task": "build", "files": []}', "no JSON", "[1]", '{"versions": 3}'])
def test_a_config_json_of_something_else_is_not_replaced(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    assert "has a config.json that is not of a run" in refusal(*TINY, f"--logdir={tmp_path}")
    assert contents(tmp_path) == {"config.json": content.encode()}


def test_continuing_with_other_options_says_so_in_config_json(interrupted_run, tmp_path):
    """What `result.json` was made with is what `config.json` says."""
    path = shutil.copytree(interrupted_run, tmp_path / "run")
    versions = json.loads((path / "config.json").read_text())["versions"]
    commands.run(*TINY, "--eval_lifetime_scale=2", "--eval_episodes=3", f"--logdir={path}")
    config, result = (json.loads((path / name).read_text()) for name in ("config.json", "result.json"))
    assert config["eval_lifetime_scale"] == result["eval_lifetime_scale"] == 2
    assert config["eval_episodes"] == result["meta_test"]["episodes"] == 3
    assert config["versions"] == versions


def test_continuing_with_other_versions_is_said(interrupted_run, tmp_path, monkeypatch, capsys):
    path = shutil.copytree(interrupted_run, tmp_path / "run")
    now = directory_module.versions()
    monkeypatch.setattr(directory_module, "versions", lambda: now | {"keras": "9.9"})
    commands.run(*TINY, f"--logdir={path}")
    assert f"flp_tf: {path} goes on with other versions: keras {now['keras']}, now 9.9\n" in capsys.readouterr().err


def test_numbers_that_are_not_finite_become_null(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write("result.json", {"a": math.nan, "b": [1.5, -math.inf], "c": {"d": (math.inf, 2)}, "e": "NaN"})
    expected = {"a": None, "b": [1.5, None], "c": {"d": [None, 2]}, "e": "NaN"}
    assert directory.read("result.json") == expected


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"a": NaN}', b"\xff\xfe", b"", b"[" * 100_000])
def test_files_that_are_no_json_object_are_named(content, run_copy):
    (run_copy / "config.json").write_bytes(content)
    assert f"{run_copy}/config.json cannot be read" in refusal("--mode=evaluate", f"--logdir={run_copy}")


@pytest.mark.parametrize("name", ["config.json", "result.json"])
def test_a_planted_link_is_not_followed(name, tmp_path):
    """Neither the file nor what is written first on the way leads out of the folder."""
    (tmp_path / "run").mkdir()
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "run" / name).symlink_to(tmp_path / "victim")
    (tmp_path / "run" / f".{name}.{os.getpid()}").symlink_to(tmp_path / "victim")
    RunDirectory(tmp_path / "run").write(name, {"a": 1})
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "run" / name).is_symlink()


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_planted_lock_is_not_written_through(kind, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "victim").write_text("precious")
    lock = tmp_path / "run" / files.LOCK
    lock.symlink_to(tmp_path / "victim") if kind == "symbolic" else lock.hardlink_to(tmp_path / "victim")
    assert str(lock) in refusal(*TINY, f"--logdir={tmp_path / 'run'}")
    assert (tmp_path / "victim").read_text() == "precious"


def test_left_overs_of_killed_writers_go_and_nothing_else(tmp_path):
    class Killed(BaseException):
        pass

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed), files.whole(tmp_path / "a.json") as file:
        patch.setattr(type(tmp_path), "unlink", lambda *_, **__: None)
        file.write(b"half")
        raise Killed
    (left,) = tmp_path.iterdir()
    (tmp_path / ".export.abcdefgh.partial").mkdir()
    (tmp_path / ".export.abcdefgh.partial" / "file").write_text("half")
    others = [".notes.partial", "a.partial", ".a.json.swp"]
    for name in others:
        (tmp_path / name).write_text("mine")
    assert left.name.startswith(".a.json.")
    files.remove_partial(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


HOLDER = """
import sys, time
from pathlib import Path
from flp_tf.runs import files
with files.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_told_who_holds_the_folder_until_that_one_is_dead(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        line = refusal(*TINY, f"--logdir={tmp_path}")
        assert f"{tmp_path} is in use by process {process.pid} on {os.uname().nodename}" in line
        assert [path.name for path in tmp_path.iterdir()] == [files.LOCK]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / files.LOCK).exists(), "the dead process leaves its file"
    with files.locked(tmp_path):
        assert json.loads((tmp_path / files.LOCK).read_text())["pid"] == os.getpid()
        with pytest.raises(InputError, match=f"in use by process {os.getpid()} on "), files.locked(tmp_path):
            pass
    assert not list(tmp_path.iterdir())
