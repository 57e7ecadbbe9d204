"""Screens that are closed, or cannot show all characters."""

import io
import subprocess
import sys

import pytest
from commands import ROOT

from flp_tf.silence import make_writable

WITHOUT = """
import os, sys
from flp_tf.silence import make_writable, silenced
with silenced():
    pass
make_writable()
with silenced():
    os.write(2, b"native")
print("é", file=sys.stderr, flush=True)
with open(sys.argv[1], "x") as file:
    os.write(2, b"native")
print("é", flush=True)
"""


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-", ""])
def test_a_closed_screen_changes_nothing_else(closed, tmp_path):
    command = ["sh", "-c", f'"$0" "$@" {closed}', sys.executable, "-c", WITHOUT, str(tmp_path / "file")]
    ended = subprocess.run(command, cwd=ROOT, env={"PYTHONIOENCODING": "ascii"}, capture_output=True)
    assert ended.returncode == 0
    assert ended.stdout == (b"" if ">&-" in closed.split() else b"\\xe9\n")
    assert ended.stderr == (b"" if "2>&-" in closed.split() else b"\\xe9\nnative")
    assert (tmp_path / "file").read_bytes() == b""


def test_characters_that_the_screen_lacks_are_written_as_numbers(monkeypatch):
    screens = {name: io.TextIOWrapper(io.BytesIO(), "ascii") for name in ("stdout", "stderr")}
    for name, screen in screens.items():
        monkeypatch.setattr(sys, name, screen)
    make_writable()
    for screen in screens.values():
        print("runs/é", file=screen, flush=True)
        assert screen.buffer.getvalue() == b"runs/\\xe9\n"
