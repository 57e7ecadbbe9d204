"""Runs that are damaged, of another configuration, or not there."""

import json
import shutil

import commands
import pytest
from commands import TINY, contents, meta_test, refusal

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mode", ["train", "evaluate", "export"])
def test_unwritable_logdir_is_refused(mode, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    before = contents(tmp_path)
    line = refusal(*(TINY if mode == "train" else ()), f"--mode={mode}", f"--logdir={tmp_path / 'file' / 'run'}")
    assert f"--logdir={tmp_path / 'file' / 'run'}" in line
    assert ("Not a directory" if mode == "train" else "does not exist") in line
    assert contents(tmp_path) == before


@pytest.mark.parametrize("mode", ["evaluate", "export"])
def test_logdir_without_a_run_is_refused_and_not_made(mode, tmp_path):
    line = refusal(f"--mode={mode}", f"--logdir={tmp_path / 'run'}")
    assert f"--logdir={tmp_path / 'run'} does not exist" in line
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
    shutil.rmtree(run_copy / "export")  # It says which run it is of, and is looked at first.
    before = contents(run_copy)
    arguments = [*TINY, "--network=8-7"] if mode == "train" else []
    line = refusal(*arguments, f"--mode={mode}", f"--logdir={run_copy}")
    assert "--logdir" in line and "another architecture" in line
    assert "is [8], the network's is [7]" in line
    assert contents(run_copy) == before


def truncate(path, share: float = 0.5) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_truncated_checkpoint_falls_back_to_the_newest_good_one(share, run_copy, capsys):
    shutil.copytree(run_copy, without := run_copy.with_name("without"))
    (without / "checkpoints" / "ckpt-6.npz").unlink()
    truncate(run_copy / "checkpoints" / "ckpt-6.npz", share)
    for path in (run_copy, without):
        commands.run("--mode=evaluate", f"--logdir={path}")
    err = capsys.readouterr().err
    assert err == f"flp_tf: checkpoint {run_copy}/checkpoints/ckpt-6 is damaged; trying the one before it\n"
    fallen_back = meta_test(run_copy / "evaluation.json")
    assert fallen_back == meta_test(without / "evaluation.json")
    assert fallen_back != meta_test(run_copy / "result.json")


def test_training_repairs_a_truncated_checkpoint(run_copy, bare, capsys):
    before = meta_test(run_copy / "result.json")
    truncate(run_copy / "checkpoints" / "ckpt-6.npz")
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
    assert names == {f"ckpt-{step}.npz" for step in (4, 5, 6)}


@pytest.mark.parametrize("mode", ["train", "evaluate", "export"])
def test_no_good_checkpoint_is_refused(mode, run_copy):
    for path in (run_copy / "checkpoints").glob("ckpt-*.npz"):
        truncate(path)
    before = contents(run_copy)
    line = refusal(*(TINY if mode == "train" else ()), f"--mode={mode}", f"--logdir={run_copy}")
    assert "--logdir" in line and "none of the 3 checkpoints" in line
    assert contents(run_copy) == before
