"""What CONTRIBUTING.md shows: each example is a plugin, and the command below it runs with it."""

import itertools
import json
import re
import shlex
import shutil

import commands
import documents
import pytest

pytestmark = pytest.mark.slow

BLOCKS = documents.blocks("CONTRIBUTING.md")
EXAMPLES = [
    (python, command) for (language, python), (_, command) in itertools.pairwise(BLOCKS) if language == "python"
]
# The commands as they stand, but for a lifetime of one length, and networks that they do not name.
SHORT = ("--episodes=1", "--curriculum=", "--eval_episodes=1", "--eval_every=4", "--jit_compile=false")
# The same for those of the sine task.
SINES = ("--lifetime=4", "--batch_size=4", "--query_size=4")


def test_there_is_an_example_of_every_kind():
    kinds = (
        "RULES",
        "FEEDBACK",
        "INITIALS",
        "TASKS",
        "METHODS",
        "ESTIMATORS",
        "OPTIMIZERS",
        "SCHEDULES",
        "ARCHITECTURES",
        "ANALYSES",
    )
    for kind in kinds:
        (example,) = [python for python, _ in EXAMPLES if re.search(rf"{kind}(\.register\(|\[)", python)]
        code = [line for line in example.splitlines() if line.strip() and "import" not in line]
        assert len(code) <= 20, kind
    assert len(EXAMPLES) == len(kinds)


def flags_of(command):
    """Returns the flags of a command."""
    return [word for word in shlex.split(command) if word.startswith("--")]


@pytest.mark.parametrize(
    "python, command", EXAMPLES, ids=[python.split("@")[-1].split("\n")[0] for python, _ in EXAMPLES]
)
def test_example_runs(python, command, finished_run, bare, eager, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(python)
    (tmp_path / "flags").symlink_to(commands.ROOT / "flags")
    shutil.copytree(finished_run.path, tmp_path / "runs" / "quick")
    monkeypatch.chdir(tmp_path)
    arguments = flags_of(command)
    short = ("--eval_episodes=2",) if "--mode=analyze" in arguments else SHORT
    if "--flagfile=flags/quick.cfg" in arguments:
        short += SINES if "--network" in command else (*SINES, "--network=8-8")
    with documents.registrations():
        commands.run(*arguments, *short)
    made = tmp_path / "runs"
    assert (made / "check" / "result.json").exists() or list(made.glob("quick/analysis/*/*.png"))


def test_examples_run_together_in_graphs(bare, tmp_path):
    """All that meta-training uses, in one run."""
    plugins, arguments = [], []
    for i, (python, command) in enumerate(EXAMPLES):
        if "--mode=analyze" not in command:
            plugins.append(tmp_path / f"mine{i}.py")
            plugins[-1].write_text(python)
            arguments += [flag for flag in flags_of(command) if not re.match("--(plugins|flagfile|logdir)=", flag)]
    with documents.registrations():
        commands.run(f"--plugins={','.join(map(str, plugins))}", *arguments, *SHORT, f"--logdir={tmp_path / 'run'}")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    chosen = dict(flag.removeprefix("--").split("=") for flag in arguments)
    assert len(chosen) >= 9 and all(str(config[name]) == chosen[name] for name in chosen if name != "episodes")
    assert (tmp_path / "run" / "result.json").exists()


def test_files_and_folders_that_are_named_exist():
    text = (commands.ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:flp_tf|tests|flags|tools)/[\w/.]*)`", text)
    assert len(named) > 15
    assert [name for name in named if not (commands.ROOT / name).exists()] == []
