"""What evaluation and export may replace: results of the same run, and nothing else."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import commands
import pytest
import tensorflow as tf
from commands import ROOT, contents, refusal

from flp_tf import commands as cli
from flp_tf.errors import InputError
from flp_tf.export import litert, saved_model
from flp_tf.runs import locks
from flp_tf.runs.directory import RunDirectory
from flp_tf.runs.labels import check, label

pytestmark = pytest.mark.slow

# Of every result: the mode that writes it, and where it is in the run's own folder.
RESULTS = {
    "evaluation.json": (["--mode=evaluate"], "evaluation.json"),
    "model.tflite": (["--mode=export", "--format=litert"], "litert/model.tflite"),
    "litert.json": (["--mode=export", "--format=litert"], "litert/litert.json"),
    "saved_model": (["--mode=export"], "export"),
}


def command(name, run, target):
    """Returns the command that writes a result of a run to a path; without `--output` to that of the run itself."""
    arguments, home = RESULTS[name]
    output = [] if target == run / home else [f"--output={target if name == 'saved_model' else target.parent}"]
    return [*arguments, f"--logdir={run}", *output]


def place(name, run, tmp_path, at_home):
    """Returns the path of a result, in the run's folder or in another, with all folders above it."""
    target = run / RESULTS[name][1] if at_home else tmp_path / "other" / name
    target.parent.mkdir(exist_ok=True)
    return target


def remove(path):
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def put(kind, target, tmp_path):
    """Makes something that is not ours."""
    remove(target)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "saved_model.pb").write_text("mine")
    if kind == "file":
        target.write_text("mine")
    elif kind == "JSON":
        target.write_text('{"mine": 1}')
    elif kind == "link":
        target.symlink_to(tmp_path / "mine")
    elif kind == "dangling link":
        target.symlink_to(tmp_path / "nowhere")
    elif kind == "folder":
        target.mkdir()
    else:
        target.mkdir()
        (target / "saved_model.pb").write_text("mine")
        (target / "assets").mkdir()
        (target / "assets" / "vocabulary").write_text("mine")


@pytest.fixture
def nothing_computes(monkeypatch):
    def computes(*arguments):
        raise AssertionError("what is in the way is found before anything is loaded")

    monkeypatch.setattr(cli, "restore", computes)


@pytest.mark.parametrize("kind", ["file", "JSON", "link", "dangling link", "folder", "full folder"])
@pytest.mark.parametrize("at_home", [True, False])
@pytest.mark.parametrize("name", RESULTS)
def test_what_is_not_ours_is_found_before_the_work(name, at_home, kind, run_copy, tmp_path, nothing_computes):
    target = place(name, run_copy, tmp_path, at_home)
    put(kind, target, tmp_path)
    before = contents(tmp_path)
    line = refusal(*command(name, run_copy, target))
    assert line.startswith(f"flp_tf: --{'logdir' if at_home else 'output'}: {target} is in the way: ")
    assert contents(tmp_path) == before and os.path.lexists(target)


@pytest.mark.parametrize("name", ["evaluation.json", "saved_model"])
def test_results_of_the_same_run_are_replaced_and_those_of_another_are_not(name, run_copy, tmp_path):
    target = place(name, run_copy, tmp_path, at_home=False)
    commands.run(*command(name, run_copy, target))
    before = contents(tmp_path / "other")
    # The run may lie elsewhere, and have other incidental options.
    moved = shutil.copytree(run_copy, tmp_path / "moved")
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"log_every": 7, "eval_episodes": 9}))
    commands.run(*command(name, moved, target))
    assert contents(tmp_path / "other").keys() == before.keys() and contents(tmp_path / "other") != before
    before = contents(tmp_path / "other")
    # One of more lifetimes may have been trained apart.
    for change, said in (
        ({"seed": 3}, "--seed=3 (the run has 0)"),
        ({"episodes": 12}, "--episodes=12 (the run has 6)"),
    ):
        (moved / "config.json").write_text(json.dumps(config | change))
        line = refusal(*command(name, moved, target))
        assert f"{target} is in the way: it is of another run: {said}; move it" in line
        assert contents(tmp_path / "other") == before


@pytest.mark.parametrize("at_home", [True, False])
def test_results_of_fewer_lifetimes_are_the_run_s_past_in_its_folder_alone(at_home, run_copy):
    directory, config = RunDirectory(run_copy), RunDirectory(run_copy).config()
    directory.write("evaluation.json", {"run": label(config)})
    longer, shorter = config.replace(episodes=12), config.replace(episodes=5)
    if at_home:
        check(run_copy / "evaluation.json", [longer], "logdir", at_home, exactly=False)
    refused = [shorter] if at_home else [shorter, longer]
    for other in refused:
        with pytest.raises(InputError, match=rf"it is of another run: --episodes={other.episodes} \(the run has 6\)"):
            check(run_copy / "evaluation.json", [other], "logdir", at_home, exactly=not at_home)


@pytest.mark.parametrize("name", ["evaluation.json", "saved_model"])
def test_results_without_a_label_are_the_runs_own_in_its_folder_alone(name, eager, run_copy, tmp_path, monkeypatch):
    """Those of versions that wrote none."""
    if name == "evaluation.json":
        commands.make_bare(monkeypatch)
    target = place(name, run_copy, tmp_path, at_home=True)
    commands.run(*command(name, run_copy, target))
    if name == "saved_model":
        (target / saved_model.LABEL).unlink()
    else:
        content = json.loads(target.read_text())
        target.write_text(json.dumps({field: value for field, value in content.items() if field != "run"}))
    elsewhere = tmp_path / "other" / name
    elsewhere.parent.mkdir()
    shutil.copytree(target, elsewhere) if target.is_dir() else shutil.copy(target, elsewhere)
    commands.run(*command(name, run_copy, target))
    line = refusal(*command(name, run_copy, elsewhere))
    assert f"--output: {elsewhere} is in the way: it does not say which run it is of" in line
    commands.run("--mode=train", *commands.TINY, "--segment_length=-1", "--episodes=7", f"--logdir={run_copy}")


def test_a_saved_model_of_somebody_else_is_not_replaced(run_copy, tmp_path, nothing_computes):
    tf.saved_model.save(tf.Module(), str(tmp_path / "model"))
    before = contents(tmp_path)
    line = refusal("--mode=export", f"--logdir={run_copy}", f"--output={tmp_path / 'model'}")
    assert "model is in the way: " in line and contents(tmp_path) == before


def test_meta_training_does_not_replace_the_saved_model_of_another_run(interrupted_run, run_copy, tmp_path):
    path = shutil.copytree(interrupted_run, tmp_path / "interrupted")
    shutil.copytree(run_copy / "export", path / "export")
    file = path / "export" / saved_model.LABEL
    content = json.loads(file.read_text())
    content["run"]["seed"] = 3
    file.write_text(json.dumps(content))
    before = contents(path)
    line = refusal(*commands.TINY, f"--logdir={path}")
    assert "export is in the way: it is of another run: --seed=0 (the run has 3)" in line
    assert contents(path) == before


def test_a_litert_file_carries_its_run_and_works_as_before(run_copy, tmp_path, monkeypatch):
    pytest.importorskip("ai_edge_litert")
    target = tmp_path / "other" / "model.tflite"
    arguments = command("model.tflite", run_copy, target)
    commands.run(*arguments)
    report = json.loads((target.parent / "litert.json").read_text())
    assert report["run"] == label(RunDirectory(run_copy).config())
    litert.Interpreted(target)
    with zipfile.ZipFile(target) as archive:
        (entry,) = archive.infolist()
    model = target.read_bytes()[: entry.header_offset]
    # The second time it need be neither made nor measured.
    monkeypatch.setattr(litert, "convert", lambda *_: model)
    monkeypatch.setattr(litert, "has_interpreter", lambda: False)
    commands.run(*arguments)
    assert target.read_bytes().startswith(model) and len(target.read_bytes()) > len(model)
    # The model alone is that of an older version.
    target.write_bytes(model)
    assert "does not say which run it is of" in refusal(*arguments)


@pytest.mark.parametrize("name", ["evaluation.json", "litert.json", "saved_model"])
def test_the_folder_of_another_run_gets_no_results(name, run_copy, tmp_path, nothing_computes):
    other = shutil.copytree(run_copy, tmp_path / "run2")
    shutil.rmtree(other / "export")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"seed": 3}))
    before = contents(other)
    line = refusal(*command(name, run_copy, other / name))
    assert f"--output={other} holds another run: --seed=0 (the run has 3)" in line
    assert contents(other) == before


@pytest.mark.parametrize("place", ["export", "export/new"])
@pytest.mark.parametrize("exported", [True, False])
@pytest.mark.parametrize("name", ["evaluation.json", "model.tflite"])
def test_nothing_else_is_written_to_where_a_run_has_its_saved_model(name, exported, place, run_copy, nothing_computes):
    """The run could not replace it any more, or not make it."""
    if not exported:
        remove(run_copy / "export")
    before = contents(run_copy)
    line = refusal(*command(name, run_copy, run_copy / place / name))
    assert f"--output={run_copy / place}: {run_copy / 'export'} is for a SavedModel alone" in line
    assert contents(run_copy) == before and (run_copy / "export").exists() == exported


def test_a_saved_model_elsewhere_is_kept_from_other_results(run_copy, tmp_path, nothing_computes):
    model = shutil.copytree(run_copy / "export", tmp_path / "model")
    line = refusal(*command("model.tflite", run_copy, model / "model.tflite"))
    assert f"{model} is for a SavedModel alone" in line and contents(model) == contents(run_copy / "export")


HOLDER = """
import sys, time
from pathlib import Path
from flp_tf.runs import locks
with locks.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_nothing_is_written_into_a_folder_that_a_process_trains_in(run_copy, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(run_copy)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        before = contents(run_copy)
        for arguments in (["--mode=evaluate"], ["--mode=export"], ["--mode=export", f"--output={run_copy / 'new'}"]):
            line = refusal(*arguments, f"--logdir={run_copy}")
            assert f"{run_copy} is in use by process {process.pid} on " in line
        assert contents(run_copy) == before
        commands.run("--mode=evaluate", f"--logdir={run_copy}", f"--output={tmp_path / 'other'}")
        assert (tmp_path / "other" / "evaluation.json").exists()
    finally:
        process.kill()
        process.wait()


def test_what_a_killed_export_left_goes_with_the_next_one(run_copy, tmp_path):
    """To the same path; another export beside it may still be at work."""
    left, other = (tmp_path / f".{name}.flp_tf-0123456789abcdef.partial" for name in ("model", "model2"))
    for path in (left, other):
        (path / "new").mkdir(parents=True)
        (path / "new" / "saved_model.pb").write_text("half")
    with locks.locked(tmp_path, ".model2.lock"):
        commands.run("--mode=export", f"--logdir={run_copy}", f"--output={tmp_path / 'model'}")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([other.name, "model", "run"])
