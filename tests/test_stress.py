"""A short version of `tools/stress`: every part once; for an hour, run the tool."""

import re

import commands
import pytest

# Both in one process. The run that is damaged is shorter than the tool's, bare and eager.
STRESSED = """
import os, sys
sys.path.insert(0, "tools")
import stress
import tensorflow as tf
from absl import app
from flp_tf.runs import training
from flp_tf.runs.summaries import Summaries

if not os.fork():
    app.run(stress.main, argv=["stress", "--only=floods", "--minutes=0"])
assert os.waitstatus_to_exitcode(os.wait()[1])
tf.config.run_functions_eagerly(True)
Summaries._picture, training.export = (lambda *_: None), (lambda *_: None)
stress.RUN += ["--network=8", "--lifetime=2", "--curriculum=", "--episodes=8", "--segment_length=-1"]
app.run(stress.main, argv=["stress", "--minutes=0", "--only=flips,inputs", "--seed=3"])
"""


def tried(output: str) -> dict[str, int]:
    """Returns how often each kind was tried, from the table."""
    return {kind: int(count) for kind, count in re.findall(r"^\| ([a-zA-Z].*?) \| (\d+) \|", output, re.MULTILINE)}


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_is_silent():
    """Once around is enough here: the tool itself draws other cases with every seed. An unknown part is refused."""
    done = commands.python(STRESSED)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "floods is unknown; legal are kills, flips, inputs" in done.stdout + done.stderr
    counts = tried(done.stdout)
    assert counts["flips: bit"] > 10
    assert any(kind.startswith("inputs: ") for kind in counts)
