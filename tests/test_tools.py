"""The tools run from end to end on a small budget, and report what was measured."""

import json
import math
import re
import shutil
import statistics
import subprocess
import sys

import commands
import pytest
import tensorflow as tf

sys.path.append(str(commands.ROOT / "tools"))
import benchmark
import floor

pytestmark = pytest.mark.slow

SIZES = "--num_sines=2,--lifetime=2,--batch_size=4,--query_size=4,--network=8,--curriculum=,--eval_episodes=2"
SMALL = f"--flags={SIZES},--nojit_compile"


def run_tool(tool: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs the file of a tool as a script; see `commands.python`."""
    code = f"""import runpy, sys
sys.path.insert(0, "tools")
sys.argv[0] = "tools/{tool}.py"
runpy.run_path(sys.argv[0], run_name="__main__")"""
    return commands.python(code, *arguments)


# Runs the `main` of a tool for each command line, in a process of its own that imports nothing anew.
REFUSING = """
import os, sys
from absl import app
sys.path.insert(0, "tools")
import {tool}
for arguments in {cases}:
    print(end="\\0", file=sys.stderr, flush=True)
    if not os.fork():
        app.run({tool}.main, argv=["{tool}", *arguments])
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def refusals(tool: str, cases: list[list[str]]) -> list[str]:
    """Returns what a tool prints for command lines that it has to refuse."""
    done = commands.python(REFUSING.format(tool=tool, cases=cases))
    assert done.returncode == 0, done.stderr
    assert all(int(status) > 0 for status in done.stdout.split()) and len(done.stdout.split()) == len(cases)
    return done.stderr.split("\0")[1:]


def test_reproduce_trains_evaluates_analyses_and_reports(finished_run, tmp_path):
    """A budget of two lifetimes fills a cell; one that fails is tried again; numbers are the runs' own."""
    good, bad = (f"sine_compact_{order}_flp2_seed0" for order in ("iid", "continual"))
    (tmp_path / bad).write_text("a file where the run directory should be")
    common = [f"--out={tmp_path}", "--figures=none", "--failed_above=10"]
    arguments = ["--only=flp2", "--budget=2", SMALL, "--jobs=2", *common]
    done = run_tool("reproduce", "table1", *arguments)
    assert done.returncode == 0, done.stderr
    # Two at a time, each with a log of its own.
    assert f"== {good}" in done.stdout and f"== {bad}" in done.stdout
    assert "Meta-test of flp(2)" in (tmp_path / f"{good}.log").read_text()
    assert f"{bad} ended with 1 ({tmp_path / bad}.log says why)" in done.stderr
    assert "--logdir" in (tmp_path / f"{bad}.log").read_text()
    (row,) = json.loads((tmp_path / "table.json").read_text())
    assert not row["continual"] and row["seeds"] == [0] and row["episodes"] == 2
    # In a budget of no time it is ended at once.
    done = run_tool("reproduce", "table1", *arguments, "--budget=0.0001m")
    assert done.returncode == 0, done.stderr
    assert f"== {good}" not in done.stdout and f"== {bad}" in done.stdout
    # The report alone, when another machine has trained it: nothing is trained, figures stay.
    (tmp_path / bad).unlink()
    shutil.copytree(finished_run.path, tmp_path / bad)
    figures = [f"figures/{name}/{name}.png" for name in ("alignment", "learning_curves")]
    for figure in figures:
        (tmp_path / figure).parent.mkdir(parents=True)
        (tmp_path / figure).touch()
    done = run_tool("reproduce", "table1", "--notrain", *common)
    assert done.returncode == 0 and "==" not in done.stdout, done.stderr
    rows = json.loads((tmp_path / "table.json").read_text())
    for row, order, episodes in zip(rows, ("iid", "continual"), (2, 6), strict=True):
        result = json.loads((tmp_path / f"sine_compact_{order}_flp2_seed0" / "result.json").read_text())
        assert (row["method"], row["num_plastic_layers"], row["continual"]) == ("flp", 2, order == "continual")
        assert row["second_order"] is None
        assert (
            row["mean"] == result["meta_test"]["mean"] and row["stderr_over_lifetimes"] == result["meta_test"]["stderr"]
        )
        assert row["stderr_over_networks"] is None
        assert row["episodes"] == episodes and row["seeds"] == [0] and row["minutes"] > 0
    report = (tmp_path / "report.md").read_text()
    assert "| FLP (2) | continual |" in report and "not run" in report
    assert result["machine"] in report.splitlines()[2]
    assert re.findall(r"\((.*\.png)\)", report) == figures
    assert re.findall(r'src="([^"]*)"', (tmp_path / "report.html").read_text()) == figures


def row_of(table: dict, **where) -> dict:
    (row,) = [row for row in table if where.items() <= row.items()]
    return row


def test_reproduce_tells_what_stopped_runs_are(bare, eager, tmp_path):
    """A run without its end counts with the lifetimes it had, beside a finished one of another seed; one diverged.

    The folder is relative to the working directory, for the tool and for the command that it starts.
    """
    out = tmp_path / "runs" / "table1"
    logdir = "sine_compact_continual_gradient3_first_order_seed{}"
    of_flp = ("plasticity_scale", "plasticity_init", "feedback_rate", "strength_rate")
    flags = [flag for flag in commands.SHORT if not any(name in flag for name in of_flp)]
    flags += ["--method=gradient", "--nosecond_order", "--num_plastic_layers=2", "--inner_rate=0.001"]
    commands.run(*flags, "--seed=0", f"--logdir={out / logdir.format(0)}")
    finished = json.loads((out / logdir.format(0) / "result.json").read_text())
    stopped = shutil.copytree(out / logdir.format(0), out / logdir.format(1))
    (stopped / "result.json").unlink()
    for path in stopped.glob("checkpoints/ckpt-6.*"):  # What is left are those after lifetimes 4 and 5.
        path.unlink()
    config = json.loads((stopped / "config.json").read_text())
    (stopped / "config.json").write_text(json.dumps(config | {"seed": 1}))
    diverged = shutil.copytree(stopped, out / logdir.format(2))
    with tf.summary.create_file_writer(str(diverged)).as_default(step=5):
        tf.summary.text("diverged", "Meta-training diverged")
    arguments = ["--notrain", "--figures=none", "--seeds=0,1,2", "--flags=--eval_episodes=3", "--failed_above=10"]
    # The tool in a process that has to import all that it needs, wherever it is started.
    command = [sys.executable, str(commands.ROOT / "tools/reproduce.py"), "table1", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    row = row_of(json.loads((out / "table.json").read_text()), method="gradient", continual=True)
    measured = json.loads((stopped / "evaluation.json").read_text())
    assert measured["meta_test"]["episodes"] == 3 and measured["episodes"] == 5
    assert row["second_order"] is False and row["seeds"] == [0, 1] and row["episodes"] == 5
    assert row["failed"] == 1 and "; 1 failed | " in (out / "report.md").read_text()
    assert not (diverged / "evaluation.json").exists()
    assert row["minutes"] == pytest.approx((finished["minutes"] + measured["minutes"]) / 2)
    assert 0 < measured["minutes"] < finished["minutes"]
    means = [finished["meta_test"]["mean"], measured["meta_test"]["mean"]]
    assert row["mean"] == pytest.approx(statistics.mean(means))
    assert row["stderr_over_networks"] == pytest.approx(statistics.stdev(means) / math.sqrt(2))
    within = [finished["meta_test"]["stderr"], measured["meta_test"]["stderr"]]
    assert row["stderr_over_lifetimes"] == pytest.approx(statistics.mean(within))
    assert "| 0, 1 | 5 of 6 |" in (out / "report.md").read_text()


# The tool, whose analyses all fail.
FAILING = """
import subprocess, sys
from absl import app
sys.path.insert(0, "tools")
import reproduce
reproduce.start = lambda *arguments: subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
app.run(reproduce.main)
"""


def test_reproduce_leaves_out_a_figure_that_failed(finished_run, tmp_path):
    """What an earlier call drew is not of these runs."""
    shutil.copytree(finished_run.path, tmp_path / "sine_compact_continual_flp2_seed0")
    stale = tmp_path / "figures" / "alignment" / "alignment.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of another day")
    arguments = ["--figures=alignment", "--failed_above=10"]
    done = commands.python(FAILING, "table1", "--notrain", f"--out={tmp_path}", *arguments)
    assert done.returncode == 0 and "alignment ended with 1" in done.stderr
    assert ".png" not in (tmp_path / "report.md").read_text() and stale.exists()


# The tool, whose analyses have no processes of their own.
ANALYSING = """
import sys
from types import SimpleNamespace
from absl import app
sys.path.insert(0, {tools!r})
import reproduce
from flp_tf import main

def start(*arguments):
    print(*arguments)
    main.main(arguments)
    return SimpleNamespace(wait=lambda: 0)

reproduce.start = start
app.run(reproduce.main)
"""


def test_relative_paths_are_those_of_the_working_directory(finished_run, tmp_path):
    """Those that the tool reads and writes itself, and those of an analysis; of an evaluation, see above.

    Drawn are all seeds that have a checkpoint and did not diverge, in the comparison every result.
    """
    run = shutil.copytree(finished_run.path, tmp_path / "runs/table1/sine_compact_continual_flp2_seed0")
    config = json.loads((run / "config.json").read_text())
    for seed in (3, 7):
        other = shutil.copytree(run, run.with_name(f"sine_compact_continual_flp2_seed{seed}"))
        (other / "config.json").write_text(json.dumps(config | {"seed": seed}))
    (other / "result.json").unlink()
    with tf.summary.create_file_writer(str(other)).as_default(step=5):
        tf.summary.text("diverged", "Meta-training diverged")
    before = set(commands.ROOT.glob("runs/*"))
    stale = run.parent / "figures/update_norms/update_norms.png"  # Of runs that are gone.
    stale.parent.mkdir(parents=True)
    stale.touch()
    # A result alone, whose error is half as large.
    gone = run.with_name("sine_compact_continual_dfa2_seed0")
    gone.mkdir()
    (gone / "config.json").write_text(json.dumps(config))
    result = json.loads((run / "result.json").read_text())
    half = {"method": "dfa", "meta_test": result["meta_test"] | {"mean": result["meta_test"]["mean"] / 2}}
    (gone / "result.json").write_text(json.dumps(result | half))
    figures = "--figures=update_norms_continual,update_norms,comparison"
    arguments = ["--notrain", figures, "--seeds=7,3,0", "--flags=--eval_episodes=2", "--failed_above=10"]
    done = commands.python(ANALYSING.format(tools=str(commands.ROOT / "tools")), "table1", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figure = "figures/update_norms_continual/update_norms.png"
    page = (run.parent / "report.html").read_text()
    assert figure in page and (run.parent / figure).stat().st_size
    assert "update_norms/update_norms.png" not in page and stale.exists()
    assert "figures/comparison/comparison.png" in page
    shown = ",".join(str(run.with_name(f"sine_compact_continual_flp2_seed{seed}")) for seed in (3, 0))
    assert f"--analysis=update_norms --logdir={shown} " in done.stdout
    rows = json.loads((run.parent / "table.json").read_text())
    flp, dfa = (row_of(rows, method=method) for method in ("flp", "dfa"))
    assert (len(flp["errors"]), flp["failed"], flp["ratio"]) == (2, 1, None)
    assert dfa["ratio"] == pytest.approx(0.5) and dfa["ratio_low"] is None and dfa["verdict"] == "not established"
    assert "| 0.5 | not established | 0 |" in (run.parent / "report.md").read_text()
    assert set(commands.ROOT.glob("runs/*")) == before


@pytest.mark.skipif(
    not (commands.ROOT / ".venv/requirements.installed").exists(), reason="tools/test did not set up .venv"
)
def test_environment_leaves_the_working_directory(tmp_path):
    shell = f"source {commands.ROOT}/tools/environment; pwd; python -c 'import flp_tf; print(flp_tf.__file__)'"
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == [str(tmp_path), str(commands.ROOT / "flp_tf/__init__.py")], done.stderr


REFUSED = {
    "table1": ["table9"],
    "--budget=long": ["table1", "--budget=long"],
    "--only=flp9 is unknown; legal values: feature_reuse, feature_reuse_linear, flp2": ["table1", "--only=flp2,flp9"],
    "--figures=curves is unknown; legal values: comparison, readout": ["table1", "--figures=curves"],
    "--network=big is unknown; legal values: compact, paper": ["table2", "--network=big"],
    "--seeds=0,x": ["table2", "--seeds=0,x"],
    "--flags: 20:5 is not a flag; a flag with commas": ["table1", "--flags=--curriculum=10:5,20:5"],
}


def test_reproduce_refuses_bad_input():
    for message, printed in zip(REFUSED, refusals("reproduce", [*REFUSED.values()]), strict=True):
        assert message in printed and len(printed.strip().splitlines()) == 1


@pytest.mark.parametrize("layers, products", [(1, 8 * 3 + 6), (3, 6 * 3 + 3 * 6)])
def test_floor_runs_the_products_that_are_needed_and_no_other(layers, products, monkeypatch):
    """Three a layer of the trunk, six a plastic layer and step."""
    monkeypatch.setattr(floor, "LIFETIME", 2)
    sizes = benchmark.layer_sizes(9)
    runs = floor.trunk_products(sizes[:-layers]), floor.plastic_products(sizes[-layers:])
    count = 0
    for run in runs:
        graph = tf.function(run, autograph=False).get_concrete_function().graph.as_graph_def()
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        count += sum(node.op.endswith("MatMul") or node.op.startswith("BatchMatMul") for node in nodes)
    assert count == products
    assert all(math.isfinite(float(run())) for run in runs)
