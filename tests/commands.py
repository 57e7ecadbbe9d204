"""The command line, run from tests: in this process where that will do, else in a real one."""

import fcntl
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flp_tf import main
from flp_tf.runs import training
from flp_tf.runs.summaries import Summaries

ROOT = Path(__file__).parents[1]

# A run of a few seconds in which everything moves: weights, fast weights, plasticity.
TINY = (
    "--recipe=paper",
    "--task=sine",
    "--continual",
    "--num_sines=2",
    "--network=8-8",
    "--lifetime=8",
    "--batch_size=4",
    "--query_size=4",
    "--episodes=6",
    "--slow_rate=0.01",
    "--feedback_rate=0.01",
    "--plasticity_rate=0.01",
    "--strength_rate=0.01",
    "--plasticity_scale=0.001",
    "--plasticity_init=1",
    "--output_plasticity_init=1",
    "--log_every=2",
    "--eval_every=3",
    "--eval_episodes=10",
    "--checkpoint_minutes=0",
    "--jit_compile=False",
)
# The same for the fixture `eager`, in which every inner step takes its time.
SHORT = (*TINY, "--lifetime=2", "--segment_length=-1", "--eval_every=6", "--eval_episodes=2")

# TensorBoard as where there is no TensorFlow, which it has a substitute for, and does not import for seconds.
TENSORBOARD = """
import sys, types
sys.modules["tensorboard.compat.notf"] = types.ModuleType("notf")
from tensorboard.main import run_main
run_main()
"""


def run(*arguments: object) -> None:
    """Does what `python -m flp_tf.main ARGUMENTS` does, in this process."""
    main.main([str(argument) for argument in arguments])


def make_bare(patch: pytest.MonkeyPatch) -> None:
    """Makes runs of this process leave out what a third of a tiny one's time is spent on: pictures and SavedModel."""
    patch.setattr(Summaries, "_picture", lambda *_: None)
    patch.setattr(training, "export", lambda *_: None)


def refusal(*arguments: object) -> str:
    """Runs a command that must be refused; returns its line."""
    with pytest.raises(SystemExit) as refused:
        run(*arguments)
    line = refused.value.code
    assert isinstance(line, str), "sys.exit with text is what prints it and makes the exit status 1"
    assert line.startswith("flp_tf: ") and "\n" not in line
    return line


def start(*arguments: str) -> subprocess.Popen:
    """Starts `python -m flp_tf.main ARGUMENTS` in the state that a user's shell leaves it."""
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"} | {"PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "flp_tf.main", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Runs each script that it is sent, in a fork of a process that has imported TensorFlow and computed nothing.
SERVER = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, "tools")
import forked

def run(request):
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code, *sys.argv[1:] = request
    exec(code, {"__name__": "__main__"})

for line in sys.stdin:
    request, folder, environment = json.loads(line)
    print(json.dumps(forked.run(request, Path(folder), environment, 600, run)), flush=True)
"""


@functools.cache
def _server() -> subprocess.Popen:
    """Starts the process of `SERVER`, which ends with this one: then its standard input does."""
    return subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def python(code: str, *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Does what `python -c CODE ARGUMENTS` does, in a process for which TensorFlow and `tools/forked.py` are imported.

    Where the process itself is what is tested, a real one has to be started: modules are there that it may lack.
    """
    server = _server()
    server.stdin.write(json.dumps([[code, *map(str, arguments)], str(cwd), {**os.environ}]) + "\n")
    server.stdin.flush()
    status, out, err, _ = json.loads(server.stdout.readline())
    return subprocess.CompletedProcess(["-c", *arguments], status, out, err)


def fork(script: str, *values: object) -> list:
    """Runs a script that starts commands with `tools/forked.py`: processes for which TensorFlow is imported once.

    Args:
        script: finds `values` and `forked`, and sets `result`, a list of what JSON has.
        values: what JSON has.
    """
    code = f"""import json, sys
from pathlib import Path
import forked
values = json.loads(sys.argv[1])
{script}
print(json.dumps(result))"""
    done = python(code, json.dumps(values))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def made_once(folders: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Returns a folder that is the same for all workers of pytest-xdist, to be read only.

    Args:
        folders: the fixture `tmp_path_factory`.
        name: of the folder.
        make: fills it, in the worker that comes first; the others wait.
    """
    base = folders.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            partial.rename(folder)
    return folder


def contents(directory: Path) -> dict[str, bytes]:
    """Returns every file below a folder, by path."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def meta_test(path: Path) -> dict:
    """Returns the final figures of a `result.json` or `evaluation.json`."""
    return json.loads(path.read_text())["meta_test"]
