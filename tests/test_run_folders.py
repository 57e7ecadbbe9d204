"""Names, owners and leftovers of run directories."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys

import commands
import pytest
from commands import ROOT, SHORT, TINY, contents, meta_test, refusal

from flp_tf.errors import InputError
from flp_tf.files import partial, whole
from flp_tf.meta.trainer import Trainer
from flp_tf.runs import directory as directory_module
from flp_tf.runs import locks
from flp_tf.runs.config import configure
from flp_tf.runs.directory import RunDirectory
from flp_tf.tasks import TASKS, Sine

pytestmark = pytest.mark.slow


def test_any_name_of_a_folder_works(bare, eager, tmp_path):
    name = "[1] a*b? back\\slash, ünï {x} %d"
    path = tmp_path / name / "run"
    commands.run(*SHORT, "--episodes=2", f"--logdir={path}")
    commands.run("--mode=evaluate", f"--logdir={path}")
    commands.run("--mode=export", f"--logdir={path}")
    assert meta_test(path / "evaluation.json") == meta_test(path / "result.json")
    assert (path / "export" / "saved_model.pb").exists()
    assert [child.name for child in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "--logdir= names no folder"),
        ("gs://bucket/run", "--logdir=gs://bucket/run is not a local folder"),
        ("s3+http://bucket", "--logdir=s3+http://bucket is not a local folder"),
        ("~nobody_of_this_name/run", "--logdir=~nobody_of_this_name/run names the home of a user who does not exist"),
    ],
)
def test_paths_that_are_no_folder_are_refused(path, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refusal(*TINY, f"--logdir={path}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["evaluate", "export", "analyze"])
def test_an_output_that_names_nothing_is_refused(mode, run_copy):
    before = contents(run_copy)
    assert refusal(f"--mode={mode}", f"--logdir={run_copy}", "--output=") == "flp_tf: --output= names no folder"
    assert contents(run_copy) == before


def test_a_finished_run_without_its_checkpoints_is_not_trained_again(run_copy):
    shutil.rmtree(run_copy / "checkpoints")
    before = contents(run_copy)
    assert "holds a finished run (result.json) without its checkpoints" in refusal(*TINY, f"--logdir={run_copy}")
    assert contents(run_copy) == before


@pytest.mark.parametrize(
    "lost", [["checkpoints", "result.json"], ["checkpoints", "result.json", "export", "config.json"]]
)
@pytest.mark.parametrize("seed", [0, 5])
def test_what_is_left_of_a_run_is_not_replaced(lost, seed, run_copy):
    for name in lost:
        shutil.rmtree(run_copy / name) if (run_copy / name).is_dir() else (run_copy / name).unlink()
    before = contents(run_copy)
    refusal(*TINY, f"--seed={seed}", f"--logdir={run_copy}")
    assert contents(run_copy) == before


def test_a_folder_without_a_checkpoint_is_claimed_anew(bare, eager, tmp_path, monkeypatch):
    """After a first step that failed, the corrected command is not another run, and ends as in a new folder."""
    short, path = (*SHORT, "--episodes=2"), tmp_path / "run"

    def fails(trainer):
        raise RuntimeError

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(Trainer, "outer_step", fails)
        commands.run(*short, "--batch_size=5", f"--logdir={path}")
    assert json.loads((path / "config.json").read_text())["batch_size"] == 5
    for folder in (path, tmp_path / "new"):
        commands.run(*short, f"--logdir={folder}")
    assert json.loads((path / "config.json").read_text())["batch_size"] == 4
    assert meta_test(path / "result.json") == meta_test(tmp_path / "new" / "result.json")
    assert len(list(path.glob("events*"))) == 1, "the failed attempt's events are gone"


@pytest.mark.parametrize("content", ["{}", '{"task": "build", "files": []}', "no JSON", "[1]", '{"versions": 3}'])
def test_a_config_json_of_something_else_is_not_replaced(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    assert "has a config.json that is not of a run" in refusal(*TINY, f"--logdir={tmp_path}")
    assert contents(tmp_path) == {"config.json": content.encode()}


def test_continuing_with_other_options_and_versions_is_said(
    interrupted_run, bare, eager, tmp_path, monkeypatch, capsys
):
    """What `result.json` was made with is what `config.json` says; its versions are those of the start."""
    path = shutil.copytree(interrupted_run, tmp_path / "run")
    versions = json.loads((path / "config.json").read_text())["versions"]
    now = directory_module.versions()
    monkeypatch.setattr(directory_module, "versions", lambda: now | {"keras": "9.9"})
    commands.run(*TINY, "--segment_length=-1", "--eval_lifetime_scale=2", "--eval_episodes=3", f"--logdir={path}")
    config, result = (json.loads((path / name).read_text()) for name in ("config.json", "result.json"))
    assert config["eval_lifetime_scale"] == result["eval_lifetime_scale"] == 2
    assert config["eval_episodes"] == result["meta_test"]["episodes"] == 3
    assert config["versions"] == versions
    assert f"flp_tf: {path} goes on with other versions: keras {now['keras']}, now 9.9\n" in capsys.readouterr().err


def test_a_run_does_not_go_on_with_other_data(run_copy, bare, eager, monkeypatch):
    """A run of an older version takes those that it is given, and keeps to them."""
    monkeypatch.setattr(Sine, "fingerprint", "these")
    commands.run(*TINY, f"--logdir={run_copy}")
    before = contents(run_copy)
    assert json.loads(before["config.json"])["versions"]["data"] == "these"
    monkeypatch.setattr(Sine, "fingerprint", "those")
    for more in (6, 9):
        line = refusal(*TINY, f"--episodes={more}", f"--logdir={run_copy}")
        assert f"--task=sine has other data than those that --logdir={run_copy} was started with" in line
    assert contents(run_copy) == before


@pytest.mark.parametrize("mode", [["--mode=evaluate"], ["--mode=analyze", "--analysis=learning_curves"]])
def test_a_run_is_not_measured_on_other_data(mode, run_copy, bare, eager, monkeypatch):
    """Those of a run without a fingerprint are not known; an earlier result stays as it is."""
    command = [*mode, "--eval_episodes=2", f"--logdir={run_copy}"]
    monkeypatch.setattr(Sine, "fingerprint", "those")
    commands.run(*command)
    config = json.loads((run_copy / "config.json").read_text())
    config["versions"]["data"] = "these"
    (run_copy / "config.json").write_text(json.dumps(config))
    before = contents(run_copy)
    line = refusal(*command)
    assert f"--task=sine has other data than those that --logdir={run_copy} was started with; name those" in line
    assert contents(run_copy) == before


@pytest.mark.parametrize("task, flag", [("mini_imagenet", "mini_imagenet_dir"), ("omniglot", "omniglot_archives")])
def test_the_flag_that_names_other_data_is_said(task, flag, tmp_path):
    directory, config = RunDirectory(tmp_path), configure(task=task, data_dir="caches", **{flag: "images"})
    directory.write("config.json", {"versions": {"data": "these"}})
    directory.check_data(config, "these")
    with pytest.raises(InputError, match=f"^--{flag}=images --data_dir=caches has other data"):
        directory.check_data(config, "those")


def test_folders_made_for_results_are_not_left_empty(tmp_path):
    """At an error, such as a network that LiteRT does not take; a folder that was there stays, and so does a result."""

    def fail(path, write=False):
        directory = RunDirectory(tmp_path / path)
        with pytest.raises(InputError, match="it cannot go"), directory.results(["evaluation.json"], configure(), None):
            assert directory.path.is_dir()
            if write:
                directory.write("evaluation.json", {})
            raise InputError("it cannot go")

    (tmp_path / "mine").mkdir()
    for path in ("new", "new/and/new", "mine", "mine/new"):
        fail(path)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]
    fail("new/written", write=True)
    assert (tmp_path / "new" / "written" / "evaluation.json").exists()


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
    lock = tmp_path / "run" / locks.LOCK
    lock.symlink_to(tmp_path / "victim") if kind == "symbolic" else lock.hardlink_to(tmp_path / "victim")
    assert str(lock) in refusal(*TINY, f"--logdir={tmp_path / 'run'}")
    assert (tmp_path / "victim").read_text() == "precious"


def test_left_overs_of_killed_writers_go_and_nothing_else(tmp_path):
    class Killed(BaseException):
        pass

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed), whole(tmp_path / "a.json") as file:
        patch.setattr(type(tmp_path), "unlink", lambda *_, **__: None)
        file.write(b"half")
        raise Killed
    (left,) = tmp_path.iterdir()
    folder = partial(tmp_path / "export")
    folder.mkdir()
    (folder / "file").write_text("half")
    others = [".notes.partial", "a.partial", ".a.json.swp", ".a.abcdefgh.partial", ".a.0123456789abcdef.partial"]
    others += [".a.flp_tf-0123456789abcde.partial", ".a.flp_tf-0123456789abcdeF.partial", f"{folder.name}.txt"]
    for name in others:
        (tmp_path / name).write_text("mine")
    assert left.name.startswith(".a.json.flp_tf-")
    locks.remove_partial(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


HOLDER = """
import sys, time
from pathlib import Path
from flp_tf.runs import locks
with locks.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_told_who_holds_the_folder_until_that_one_is_dead(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        line = refusal(*TINY, f"--logdir={tmp_path}")
        assert f"{tmp_path} is in use by process {process.pid} on {os.uname().nodename}" in line
        assert [path.name for path in tmp_path.iterdir()] == [locks.LOCK]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / locks.LOCK).exists(), "the dead process leaves its file"
    with locks.locked(tmp_path):
        assert json.loads((tmp_path / locks.LOCK).read_text())["pid"] == os.getpid()
        with pytest.raises(InputError, match=f"in use by process {os.getpid()} on "), locks.locked(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_a_missing_option_is_said_with_the_value_that_is_taken(run_copy, capsys):
    config = json.loads((run_copy / "config.json").read_text())
    del config["average"], config["query_size"]
    (run_copy / "config.json").write_text(json.dumps(config))
    taken = RunDirectory(run_copy).config()
    line = "config.json lacks average, query_size; taken: --average=0.0, --query_size=64"
    assert (taken.average, taken.query_size) == (0, 64) and line in capsys.readouterr().err


def test_a_component_that_is_not_there_names_plugins(run_copy):
    config = json.loads((run_copy / "config.json").read_text())
    (run_copy / "config.json").write_text(json.dumps(config | {"rule": "mine", "rule_speed": 1.0}))
    line = refusal("--mode=evaluate", f"--logdir={run_copy}")
    assert "--rule=mine is unknown; legal values: hebb, oja, polynomial; a component of your own" in line
    assert "--plugins" in line


def test_a_task_that_breaks_its_contract_is_told_in_one_line_and_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(
        TASKS._components, "broken", type("Broken", (Sine,), {"__init__": lambda self, **options: None})
    )
    line = refusal("--task=broken", f"--logdir={tmp_path / 'run'}")
    assert "Broken has no attribute" in line
    assert not list(tmp_path.iterdir())
