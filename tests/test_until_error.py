"""The time to a validation error: what is counted, where it ends, and bad input."""

import json
import sys
from types import SimpleNamespace

import commands
import pytest
from test_tools import run_tool

sys.path.insert(0, str(commands.ROOT / "tools"))

import until_error

from flp_tf.meta.evaluation import Evaluator
from flp_tf.meta.trainer import Trainer


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Puts back what `measure` replaces in its process."""
    monkeypatch.setattr(Trainer, "outer_step", Trainer.outer_step)
    monkeypatch.setattr(Evaluator, "__call__", Evaluator.__call__)
    monkeypatch.setattr(sys, "argv", sys.argv)


@pytest.mark.slow
def test_it_ends_where_the_error_is_reached(bare, eager, monkeypatch):
    """With errors of 3, 2, 1 at lifetimes 2, 4, 6; each outer step counts, evaluations do not."""
    evaluations = (SimpleNamespace(meta_test=lambda error=error: {"mean": error}) for error in (3.0, 2.0, 1.0))
    monkeypatch.setattr(Evaluator, "__call__", lambda *_: next(evaluations))
    monkeypatch.setattr("flp_tf.runs.summaries.Summaries.evaluation", lambda *_: None)
    found = until_error.measure(2.5, [*commands.SHORT, "--eval_every=2"])
    assert found["lifetimes"] == 4 and found["error"] == 2.0 and found["best_error"] == 2.0
    assert found["seconds"] == found["seconds_in_all"] == found["curve"][1]["seconds"]
    assert 0 < found["curve"][0]["seconds"] < found["curve"][1]["seconds"]


@pytest.mark.slow
def test_errors_that_are_not_finite(monkeypatch):
    """They are null in JSON, and the best of the others is the best."""
    errors = [float("nan"), 2.0, float("inf")]
    evaluations = (SimpleNamespace(meta_test=lambda error=error: {"mean": error}) for error in errors)
    monkeypatch.setattr(Evaluator, "__call__", lambda *_: next(evaluations))
    monkeypatch.setattr("flp_tf.runs.summaries.Summaries.evaluation", lambda *_: None)
    found = until_error.measure(1.0, [*commands.SHORT, "--eval_every=2"])
    assert found["best_error"] == 2.0 and found["error"] is None and found["seconds"] is None
    assert [point["error"] for point in found["curve"]] == [None, 2.0, None]
    row = {"flagfile": "tiny.cfg", "checkout": "here", "seed": 0, **json.loads(json.dumps(found, allow_nan=False))}
    assert "| not reached | 6 | not finite | 2 |" in until_error.table([row], 1.0)


def test_how_often_it_evaluates(tmp_path):
    """A hundredth of the lifetimes, whichever of flags, flagfiles and recipes says how many there are."""
    flagfile = tmp_path / "mine.cfg"
    flagfile.write_text("--task=sine\n--episodes=6000\n--curriculum=\n")
    assert until_error.evaluations(flagfile, []) == ["--eval_every=60"]
    assert until_error.evaluations(flagfile, ["--episodes=50"]) == ["--eval_every=1"]
    assert until_error.evaluations(flagfile, ["--eval_every=7"]) == []
    for name in ("sine_compact", "sine_compact_flp3"):
        assert until_error.evaluations(commands.ROOT / "flags" / f"{name}.cfg", ["--continual"]) == ["--eval_every=40"]
    # Of an older checkout.
    flagfile.write_text("--a_flag_of_old\n--episodes=6000\n")
    assert until_error.evaluations(flagfile, []) == ["--eval_every=60"]
    flagfile.write_text("--a_flag_of_old\n")
    assert until_error.evaluations(flagfile, []) == []


# A checkout without TensorFlow: what `measure` watches, and one outer step.
BASELINE = {
    "meta/evaluation.py": """
from types import SimpleNamespace
class Evaluator:
    def __call__(self, seed, episodes, split):
        return SimpleNamespace(meta_test=lambda: {"mean": 0.25})
""",
    "meta/trainer.py": """
class Trainer:
    step = steps = episodes = 1
    def outer_step(self):
        return {}
""",
    "main.py": """
from flp_tf.meta.evaluation import Evaluator
from flp_tf.meta.trainer import Trainer
Trainer().outer_step()
Evaluator()(0, 2, "validation")
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 2])
def test_a_run_that_diverges_has_a_row(steps, bare, eager):
    """Also if it does in its first outer step."""
    flags = [*commands.SHORT, "--network=8", "--plasticity_init=1e30", f"--max_skipped={steps}"]
    row = until_error.measure(1e-9, flags)
    assert (row["lifetimes"], row["error"], row["seconds"]) == (steps, None, None)
    assert (row["seconds_in_all"] > 0) == (steps > 1), "that of the last step is not counted"


@pytest.mark.slow
def test_table_and_json_of_a_checkout_and_a_baseline(bare, eager, monkeypatch, tmp_path, capsys):
    """The baseline has a process of its own; this checkout has this one here."""
    in_fresh_process = until_error.in_fresh_process

    def measured(target, checkout, flagfile, arguments):
        if checkout == commands.ROOT:
            return until_error.measure(target, [f"--flagfile={flagfile}", *arguments])
        return in_fresh_process(target, checkout, flagfile, arguments)

    monkeypatch.setattr(until_error, "in_fresh_process", measured)
    flagfile, rows, baseline = tmp_path / "tiny.cfg", tmp_path / "rows.json", tmp_path / "baseline"
    flagfile.write_text("\n".join([*commands.SHORT, "--network=8", "--episodes=2"]))
    for name, content in BASELINE.items():
        (baseline / "flp_tf" / name).parent.mkdir(parents=True, exist_ok=True)
        (baseline / "flp_tf" / name).write_text(content)
    arguments = [f"--flagfile={flagfile}", f"--baseline={baseline}", f"--json={rows}", "--eval_every=2"]
    until_error.main(["--until_error=1e-9", *arguments])
    out = capsys.readouterr().out
    found = json.loads(rows.read_text())
    assert [row["checkout"] for row in found] == [str(commands.ROOT), str(baseline)]
    assert all(row["seconds"] is None and row["seconds_in_all"] > 0 for row in found)
    assert [row["lifetimes"] for row in found] == [2, 1]
    assert found[0]["error"] != found[1]["error"] == 0.25
    assert out.count("| tiny.cfg |") == 2 and "not reached" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--until_error needs a --flagfile"),
        (["--flagfile=none.cfg"], "none.cfg is no file"),
        (["--flagfile=flags/quick.cfg", "--baseline=/nowhere"], "--baseline=/nowhere holds no folder flp_tf"),
        (["--flagfile=flags/quick.cfg", "--seeds=x"], "--seeds=x cannot be read"),
        (["--flagfile=flags/quick.cfg", "--seed=5"], "--seed does not go with --until_error; --seeds names the seeds"),
        (["--flagfile=flags/quick.cfg", "--json=/nowhere/x.json"], "--json=/nowhere/x.json lies in no folder"),
    ],
)
def test_bad_input_is_refused(arguments, message, monkeypatch):
    monkeypatch.chdir(commands.ROOT)
    with pytest.raises(SystemExit, match=message):
        until_error.main(["--until_error=0.1", *arguments])


def test_the_benchmark_hands_over_to_it():
    done = run_tool("benchmark", "--until_error=1e-9")
    assert done.returncode == 1 and "--until_error needs a --flagfile" in done.stderr


@pytest.mark.slow
def test_a_run_in_use_is_left_to_its_process(tmp_path):
    """The same command on another machine: `tools/reproduce` passes over a run that is locked."""
    code = f"""
import sys
sys.path.insert(0, "tools")
import pathlib, reproduce
from flp_tf.runs.locks import locked
path = pathlib.Path({str(tmp_path)!r})
before = reproduce.in_use(path / "none"), reproduce.in_use(path)
with locked(path):
    within = reproduce.in_use(path)
print(*before, within, reproduce.in_use(path))
"""
    done = commands.python(code)
    assert done.stdout.split() == ["False", "False", "True", "False"], done.stderr
