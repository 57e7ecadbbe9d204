"""What README.md shows: its Python runs, its commands are legal.

A block of Python whose first line is `# needs: export` finds a finished run, and thus
a SavedModel, at `runs/quick`.
"""

import json
import re
import shlex
import shutil

import commands
import documents
import pytest
import tensorflow as tf

from flp_tf import commandline
from flp_tf.commands import MODES
from flp_tf.runs.config import resolve
from flp_tf.tasks import TASKS

pytestmark = pytest.mark.slow

NEEDS = "# needs: "
BLOCKS = documents.blocks("README.md")
PYTHON = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [
    line
    for language, block in BLOCKS
    if language == "sh"
    for line in block.replace("\\\n", " ").splitlines()
    if re.match(r"(tools/run|python -m flp_tf\.main)\b", line)
]
REGISTERING = [block for block in PYTHON if ".register(" in block]


def execute(block):
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_readme_shows_what_the_tests_below_run():
    for part in ("PlasticDense", ".register(", "lifetime.run", "saved_model.load", "meta_train"):
        assert any(part in block for block in PYTHON), part
    assert len(COMMANDS) >= 4 and len(REGISTERING) >= 3
    assert any("--mode=evaluate" in command for command in COMMANDS)


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_python_block_runs(block, finished_run, bare, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if block.startswith(NEEDS):
        assert block.splitlines()[0] == f"{NEEDS}export"
        shutil.copytree(finished_run.path, tmp_path / "runs" / "quick")
    assert len(block.splitlines()) <= 20, "each example is short"
    # Meta-training compiles a graph for each length of lifetimes; here for one.
    block = block.replace("episodes=20", "episodes=20, curriculum=''")
    with documents.registrations():
        execute(block)


def test_what_readme_registers_trains(bare, tmp_path, monkeypatch):
    """README's command with all of its components in one plugin, on longer lifetimes as well."""
    (command,) = [command for command in COMMANDS if "--plugins=mine.py" in command]
    (tmp_path / "mine.py").write_text("\n".join(REGISTERING))
    monkeypatch.chdir(tmp_path)
    own = [word for word in shlex.split(command) if word.startswith("--")]
    names = {"task": "square_waves", "method": "bounded", "rule": "covariance", "feedback": "sign"}
    with documents.registrations():
        commands.run(*commands.TINY, *own, "--network=narrow", "--eval_lifetime_scale=2", f"--logdir={tmp_path}/run")
        episode = TASKS["square_waves"](num_sines=2, lifetime=8).with_lifetime(16).sample(0, tf.constant(0), 1, "test")
    result, config = (json.loads((tmp_path / "run" / f"{name}.json").read_text()) for name in ("result", "config"))
    assert (result["task"], result["method"], result["eval_lifetime_scale"]) == ("square_waves", "bounded", 2)
    assert names.items() <= config.items()
    assert len(episode.support_y) == 16
    assert set(episode.query_y.numpy().ravel()) == {-1.0, 1.0}


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_legal(command, tmp_path, monkeypatch):
    monkeypatch.chdir(commands.ROOT)
    (tmp_path / "mine.py").write_text("\n".join(REGISTERING))
    words = shlex.split(command.replace("mine.py", str(tmp_path / "mine.py")), comments=True)
    with documents.registrations():
        line = commandline.read([word for word in words if word.startswith("--")])
        assert line.command["mode"] in MODES
        if line.command["mode"] == "analyze":
            assert line.given.keys() <= commandline.analysis_options(line.command["analysis"]).keys()
        else:
            resolve(line.given, line.optional)
