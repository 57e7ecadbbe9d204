"""The command line: how it refuses, explains and recovers."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import commands
import pytest
from commands import TINY, contents, meta_test

from flp_tf import main, modes
from flp_tf.config import Config

# What is wrong, and what the line on stderr must say: the flag, and what is legal.
REFUSED = {
    "task": (["--task=cosine"], ["--task=cosine", "sine"]),
    "method": (["--method=backprop"], ["--method=backprop", "dfa, feature_reuse, flp, gradient, oml"]),
    "mode": (["--mode=test"], ["--mode=test", "analyze, evaluate, export, train"]),
    "rule": (["--rule=stdp"], ["--rule=stdp", "hebb, oja"]),
    "network": (["--network=300-x"], ["--network=300-x", "sine_paper", "300-300"]),
    "too many plastic layers": (["--num_plastic_layers=4"], ["--num_plastic_layers=4", "1 to 3"]),
    "no plastic layer": (["--num_plastic_layers=0"], ["--num_plastic_layers=0", "1 to 3"]),
    "feature reuse": (
        ["--method=feature_reuse", "--num_plastic_layers=2"],
        ["--num_plastic_layers=2", "--method=feature_reuse", "1"],
    ),
    "lifetime": (["--lifetime=9"], ["--lifetime=9", "--num_sines=2", "multiples of 2"]),
    "curriculum": (["--curriculum=4"], ["--curriculum=4", "40:2000"]),
    "curriculum lifetime": (["--curriculum=3:2"], ["--lifetime=3", "multiples of 2"]),
    "no episodes": (["--episodes=0"], ["--episodes=0", "1 or more"]),
    "negative seed": (["--seed=-1"], ["--seed=-1", "0 or more"]),
    "large seed": (["--seed=3000000000"], ["--seed=3000000000", "2147483647 or less"]),
    "convolution of a vector": (["--network=c4"], ["--network", "3x3"]),
    "no number": (["--episodes=many"], ["--episodes=many", "--help"]),
    "flag": (["--epsodes=6"], ["epsodes", "Did you mean: episodes", "--help"]),
    "flagfile": (["--flagfile=/nowhere.cfg"], ["/nowhere.cfg", "No such file"]),
    "no flag": (["sine"], ["sine", "--help"]),
}


def refusal(*arguments) -> str:
    """Runs a command that must be refused; returns its line."""
    with pytest.raises(SystemExit) as refused:
        commands.run(*arguments)
    line = refused.value.code
    assert isinstance(line, str), "sys.exit with text is what prints it and makes the exit status 1"
    assert line.startswith("flp_tf: ") and "\n" not in line
    return line


@pytest.mark.parametrize("wrong", REFUSED)
def test_bad_flags_are_refused_in_one_line_before_any_work(wrong, tmp_path):
    arguments, parts = REFUSED[wrong]
    line = refusal(*TINY, *arguments, f"--logdir={tmp_path / 'run'}")
    for part in parts:
        assert part in line
    assert not list(tmp_path.iterdir())


def test_refusal_of_a_real_process(tmp_path):
    process = commands.start(*TINY, "--task=cosine", f"--logdir={tmp_path / 'run'}")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert re.fullmatch(r"flp_tf: --task=cosine is unknown; legal values: .*sine.*\n", err)


@pytest.mark.parametrize("mode", ["train", "evaluate", "export"])
def test_unwritable_logdir_is_refused(mode, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    before = contents(tmp_path)
    line = refusal(*(TINY if mode == "train" else ()), f"--mode={mode}", f"--logdir={tmp_path / 'file' / 'run'}")
    assert f"--logdir={tmp_path / 'file' / 'run'}" in line and "Not a directory" in line
    assert contents(tmp_path) == before


@pytest.mark.parametrize("mode", ["evaluate", "export"])
def test_logdir_without_a_run_is_refused_and_not_made(mode, tmp_path):
    line = refusal(f"--mode={mode}", f"--logdir={tmp_path / 'run'}")
    assert f"--logdir={tmp_path / 'run'} holds no run" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "[]", '{"task": "cosine"}'])
@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_damaged_configuration_is_refused(mode, text, run_copy):
    (run_copy / "config.json").write_text(text)
    before = contents(run_copy)
    refusal(*(TINY if mode == "train" else ()), f"--mode={mode}", f"--logdir={run_copy}")
    assert contents(run_copy) == before


def test_checkpoints_without_configuration_are_refused(run_copy):
    (run_copy / "config.json").unlink()
    before = contents(run_copy)
    assert "without a config.json" in refusal(*TINY, f"--logdir={run_copy}")
    assert contents(run_copy) == before


@pytest.mark.parametrize("mode", ["train", "evaluate", "export"])
def test_logdir_of_another_configuration_names_what_differs(mode, run_copy):
    before = contents(run_copy)
    line = refusal(*TINY, "--slow_rate=0.5", "--network=9-8", f"--mode={mode}", f"--logdir={run_copy}")
    assert line.startswith(f"flp_tf: --logdir={run_copy} holds another run: ")
    assert "--slow_rate=0.5 (the run has 0.01)" in line
    assert "--network=9-8 (the run has 8-8)" in line
    assert line.count("the run has") == 2
    assert contents(run_copy) == before


@pytest.mark.parametrize("mode", ["train", "evaluate", "export"])
def test_checkpoint_of_another_architecture_is_refused(mode, run_copy):
    config = json.loads((run_copy / "config.json").read_text())
    (run_copy / "config.json").write_text(json.dumps({**config, "network": "8-7"}))
    before = contents(run_copy)
    arguments = [*TINY, "--network=8-7"] if mode == "train" else []
    line = refusal(*arguments, f"--mode={mode}", f"--logdir={run_copy}")
    assert "--logdir" in line and "another architecture" in line
    assert "[8, 8]" in line and "[8, 7]" in line
    assert contents(run_copy) == before


def truncate(path, share: float = 0.5) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def newest(run, kind: str):
    (path,) = (run / "checkpoints").glob(f"ckpt-6.{kind}*")
    return path


@pytest.mark.parametrize("kind", ["data", "index"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_truncated_checkpoint_falls_back_to_the_newest_good_one(kind, share, run_copy, capsys):
    shutil.copytree(run_copy, without := run_copy.with_name("without"))
    for path in (without / "checkpoints").glob("ckpt-6.*"):
        path.unlink()
    truncate(newest(run_copy, kind), share)
    for path in (run_copy, without):
        commands.run("--mode=evaluate", f"--logdir={path}")
    err = capsys.readouterr().err
    assert err == f"flp_tf: checkpoint {run_copy}/checkpoints/ckpt-6 is damaged; trying the one before it\n"
    fallen_back = meta_test(run_copy / "evaluation.json")
    assert fallen_back == meta_test(without / "evaluation.json")
    assert fallen_back != meta_test(run_copy / "result.json")


def test_training_repairs_a_truncated_checkpoint(run_copy, capsys):
    before = meta_test(run_copy / "result.json")
    truncate(newest(run_copy, "data"))
    (run_copy / "result.json").unlink()
    commands.run(*TINY, f"--logdir={run_copy}")
    out, err = capsys.readouterr()
    assert "after 5 lifetimes" in out and "ckpt-6 is damaged" in err
    assert meta_test(run_copy / "result.json") == before
    commands.run("--mode=evaluate", f"--logdir={run_copy}")
    assert capsys.readouterr().err == ""
    assert meta_test(run_copy / "evaluation.json") == before


def test_the_newest_three_checkpoints_are_kept(finished_run):
    names = {path.name for path in (finished_run.path / "checkpoints").iterdir()}
    assert names == {f"ckpt-{step}.{end}" for step in (4, 5, 6) for end in ("index", "data-00000-of-00001")}


@pytest.mark.parametrize("mode", ["train", "evaluate", "export"])
def test_no_good_checkpoint_is_refused(mode, run_copy):
    for path in (run_copy / "checkpoints").glob("*.data*"):
        truncate(path)
    before = contents(run_copy)
    line = refusal(*(TINY if mode == "train" else ()), f"--mode={mode}", f"--logdir={run_copy}")
    assert "--logdir" in line and "none of the 3 checkpoints" in line
    assert contents(run_copy) == before


def test_a_defect_keeps_its_traceback(monkeypatch):
    def defective(values):
        raise ValueError("shapes [2] and [3] do not match")

    monkeypatch.setitem(modes.MODES, "train", defective)
    with pytest.raises(ValueError, match="do not match"):
        commands.run()


def test_help_explains_every_flag_and_nothing_else_is_printed():
    process = commands.start("--help")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    text = " ".join(out.split())
    for name in ["mode", "logdir", *(field.name for field in dataclasses.fields(Config))]:
        assert re.search(rf"^  --(\[no\])?{name}: [A-Za-z]\w+", out, re.MULTILINE), name
    assert "One of: flp, feature_reuse, dfa, gradient, oml" in text
    assert "--flagfile=flags/quick.cfg" in text
    assert err == ""


def test_only_the_startup_is_quiet(capfd, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    with main.startup():
        os.write(2, b"oneDNN custom operations are on\n")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    os.write(2, b"out of memory\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert capfd.readouterr().err == "out of memory\n"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with main.startup():
        os.write(2, b"shown on request\n")
    assert capfd.readouterr().err == "shown on request\n"


def test_failing_import_of_tensorflow_shows():
    program = "import sys; sys.modules['tensorflow'] = None; import flp_tf.main"
    process = subprocess.run([sys.executable, "-c", program], cwd=commands.ROOT, capture_output=True, text=True)
    assert process.returncode == 1
    assert "Traceback" in process.stderr and "import of tensorflow halted" in process.stderr
