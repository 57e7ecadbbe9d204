"""What CONTRIBUTING.md shows: each example is a plugin, and the command below it runs with it."""

import itertools
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
# The commands as they stand, but for a few lifetimes, all of one length, and networks that they do not name.
SHORT = ("--episodes=2", "--curriculum=", "--eval_episodes=10", "--eval_every=2", "--jit_compile=false")


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


@pytest.mark.parametrize(
    "python, command", EXAMPLES, ids=[python.split("@")[-1].split("\n")[0] for python, _ in EXAMPLES]
)
def test_example_runs(python, command, finished_run, bare, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(python)
    (tmp_path / "flags").symlink_to(commands.ROOT / "flags")
    shutil.copytree(finished_run.path, tmp_path / "runs" / "quick")
    monkeypatch.chdir(tmp_path)
    arguments = [word for word in shlex.split(command) if word.startswith("--")]
    short = ("--eval_episodes=2",) if "--mode=analyze" in arguments else SHORT
    if short is SHORT and "--network" not in command:
        short = (*SHORT, "--network=8-8")
    with documents.registrations():
        commands.run(*arguments, *short)
    made = tmp_path / "runs"
    assert (made / "check" / "result.json").exists() or list(made.glob("quick/analysis/*/*.png"))


def test_files_and_folders_that_are_named_exist():
    text = (commands.ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:flp_tf|tests|flags|tools)/[\w/.]*)`", text)
    assert len(named) > 15
    assert [name for name in named if not (commands.ROOT / name).exists()] == []
