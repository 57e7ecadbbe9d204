"""What README.md shows: its Python runs, its commands parse.

A block of Python whose first line is `# needs: export` finds a finished run, and thus
a SavedModel, at `runs/quick`.
"""

import json
import re
import shlex
import shutil

import commands
import keras
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

from flp_tf import config as configuration
from flp_tf import main, modes
from flp_tf.feedback import FEEDBACK
from flp_tf.learners import METHODS
from flp_tf.networks import ARCHITECTURES
from flp_tf.plasticity import RULES
from flp_tf.tasks import TASKS

README = (commands.ROOT / "README.md").read_text()
NEEDS = "# needs: "
REGISTRIES = (ARCHITECTURES, FEEDBACK, METHODS, RULES, TASKS)


def blocks(*languages: str) -> list[str]:
    """Returns the fenced blocks of some languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


PYTHON = blocks("python")
COMMANDS = [
    line
    for block in blocks("sh", "bash", "console")
    for line in block.replace("\\\n", " ").splitlines()
    if re.match(r"(\$ )?(tools/run|python -m flp_tf\.main)\b", line)
]


@pytest.fixture
def registries():
    """Takes back what a block registers."""
    before = [dict(registry) for registry in REGISTRIES]
    yield
    for registry, entries in zip(REGISTRIES, before):
        registry.clear()
        registry.update(entries)


def test_readme_shows_what_the_tests_below_run():
    for part in ("PlasticDense", ".register(", "lifetime.run", "saved_model.load"):
        assert any(part in block for block in PYTHON), part
    assert len(COMMANDS) >= 4
    assert any("--mode=evaluate" in command for command in COMMANDS)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.splitlines()[0])
def test_python_block_runs(block, finished_run, registries, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if block.startswith(NEEDS):
        assert block.splitlines()[0] == f"{NEEDS}export"
        shutil.copytree(finished_run.path, tmp_path / "runs" / "quick")
    assert len(block.splitlines()) < 20, "each example is under 20 lines"
    keras.utils.set_random_seed(0)
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_what_readme_registers_trains(registries, tmp_path):
    """Its network, task and method by their names on the command line, on longer lifetimes as well."""
    (block,) = [block for block in PYTHON if "TASKS.register" in block]
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    own = ("--task=square_waves", "--network=narrow", "--method=bounded", "--eval_lifetime_scale=2")
    commands.run(*commands.TINY, *own, f"--logdir={tmp_path}")
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["task"], result["method"], result["eval_lifetime_scale"]) == ("square_waves", "bounded", 2)
    episode = TASKS["square_waves"](num_sines=2, steps=8).longer(2).sample(0, tf.constant(0), 1, "test")
    assert len(episode.support_y) == 16
    assert set(episode.query_y.numpy().ravel()) == {-1.0, 1.0}


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_legal(command, monkeypatch):
    monkeypatch.chdir(commands.ROOT)
    words = shlex.split(command.removeprefix("$ "), comments=True)
    arguments = [word for word in words if word.startswith("--")]
    saved = flagsaver.save_flag_values()
    try:
        assert main.parse(["flp_tf", *arguments]) == ["flp_tf"]
        assert flags.FLAGS.mode in modes.MODES
        configuration.from_flags(flags.FLAGS)
    finally:
        flagsaver.restore_flag_values(saved)
