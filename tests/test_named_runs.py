"""Which runs `--logdir` names."""

import json

import pytest
from commands import contents, refusal, run

from flp_tf import commands
from flp_tf.runs.directory import RunDirectory
from flp_tf.runs.labels import label
from flp_tf.runs.run import PRETRAINED

NAME = "sine_continual_flp2"
MODES = {
    "evaluate": ["--mode=evaluate"],
    "export": ["--mode=export"],
    "analyze": ["--mode=analyze", "--analysis=lengths"],
}


@pytest.mark.parametrize("mode", MODES)
def test_a_folder_that_is_not_there_is_said_to_be_missing(mode, tmp_path):
    line = refusal(*MODES[mode], f"--logdir={tmp_path / 'run'}", f"--output={tmp_path / 'out'}")
    assert f"--logdir={tmp_path / 'run'} does not exist, and is no network that ships; those are " in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", MODES)
def test_results_of_a_network_that_ships_need_a_folder(mode, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = contents(PRETRAINED / NAME)
    assert f"--logdir={NAME} is a network that ships; name a folder for the results with --output" in refusal(
        *MODES[mode], f"--logdir={NAME}"
    )
    assert contents(PRETRAINED / NAME) == before and not list(tmp_path.iterdir())


def test_a_network_that_ships_is_evaluated_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands.results, "meta_test", lambda *_: {"figures": 1})
    monkeypatch.setattr(commands.results, "table", lambda *_: "a table")
    run("--mode=evaluate", f"--logdir={NAME}", "--output=out")
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["figures"] == 1 and content["run"] == label(RunDirectory(PRETRAINED / NAME).config())


def test_a_network_that_ships_is_exported_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exported = []
    monkeypatch.setattr(commands, "export", lambda learner, path, of_run: exported.append((path, of_run)))
    run("--mode=export", f"--logdir={NAME}", "--output=out")
    ((path, of_run),) = exported
    assert str(path) == "out" and of_run == label(RunDirectory(PRETRAINED / NAME).config())


@pytest.mark.parametrize("again", ["a", "./b/../a", "link", "a/"])
def test_a_run_that_is_named_twice_is_no_second_seed(again, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "link").symlink_to("a")
    before = contents(tmp_path)
    assert "twice, which counts as another seed; name each run once" in refusal(
        *MODES["analyze"], f"--logdir=a,b,{again}"
    )
    assert contents(tmp_path) == before


def test_an_analysis_without_a_name_is_asked_for(tmp_path):
    line = refusal("--mode=analyze", f"--logdir={tmp_path}")
    assert line.startswith("flp_tf: --mode=analyze needs --analysis; legal values: adaptability, alignment, ")
