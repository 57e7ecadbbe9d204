"""A short version of `tools/stress`: every part once; for an hour, run the tool."""

import re
import subprocess
import sys

import commands
import pytest


def stress(*arguments: str) -> subprocess.CompletedProcess:
    """Runs the tool."""
    command = [sys.executable, "tools/stress.py", *arguments]
    return subprocess.run(command, cwd=commands.ROOT, capture_output=True, text=True, timeout=300)


def tried(output: str) -> dict[str, int]:
    """Returns how often each kind was tried, from the table."""
    return {kind: int(count) for kind, count in re.findall(r"^\| ([a-zA-Z].*?) \| (\d+) \|", output, re.MULTILINE)}


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_is_silent():
    """Once around is enough here: the tool itself draws other cases with every seed."""
    done = stress("--minutes=0", "--only=flips,inputs", "--seed=3")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    counts = tried(done.stdout)
    assert counts["flips: bit"] > 10
    assert any(kind.startswith("inputs: ") for kind in counts)


@pytest.mark.slow
def test_unknown_parts_are_refused():
    done = stress("--only=floods", "--minutes=0")
    assert done.returncode != 0 and "floods is unknown" in done.stdout + done.stderr
