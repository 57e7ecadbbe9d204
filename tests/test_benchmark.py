"""The benchmark measures what it says, refuses bad input, and damages no file."""

import json
import sys

import commands
import pytest
from absl.testing import flagsaver
from test_tools import refusals

from flp_tf import learners
from flp_tf.runs.config import configure

sys.path.append(str(commands.ROOT / "tools"))
import benchmark
import measure

pytestmark = pytest.mark.slow


def test_it_measures_engines_and_a_baseline(monkeypatch, tmp_path, capsys):
    """Rows have the keys that are promised, and their GFLOP/s follow from their seconds.

    The baseline is a checkout; its engine is this library's own. `test_engine_cost.py` measures `plain_xla`.
    Here the plain loop has no process of its own.
    """
    in_fresh_process = benchmark.in_fresh_process

    def measured(row):
        return measure.measure(row | {"repeats": 1}) if row["engine"] == "plain" else in_fresh_process(row)

    monkeypatch.setattr(benchmark, "in_fresh_process", measured)
    path = tmp_path / "rows.json"
    options = ["--match=^sine 1 40 1$", "--engines=plain,baseline", "--repeats=1"]
    with flagsaver.flagsaver():
        benchmark.main(benchmark.FLAGS(["benchmark", *options, f"--json={path}", f"--baseline={commands.ROOT}"]))
    out = capsys.readouterr().out
    rows = json.loads(path.read_text())
    assert [row["engine"] for row in rows] == ["plain", "baseline"]
    # Trunk: 3 products of 993,000 weights less the output's 300; output: 6 of 300.
    weights = 11 * 300 + 4 * 300 * 300 + 2 * 300 * 900 + 300 * 300
    flops = 2 * 32 * 40 * (3 * weights + 6 * 300)
    for row in rows:
        assert row.items() >= {"task": "sine", "num_plastic_layers": 1, "lifetime": 40, "meta_batch": 1}.items()
        assert row.keys() >= {"seconds_median", "seconds_min", "seconds_max", "compile_seconds", "peak_mb"}
        assert row["gflop_per_second"] == pytest.approx(flops / row["seconds_median"] / 1e9)
        assert f"| sine | 1 | 40 | 1 | {row['engine']} | {row['seconds_median']:.3f} (" in out


def test_it_refuses_bad_input():
    wrong = {
        "--match=( is no regular": ["--match=("],
        "--match=^nothing$ matches no row": ["--match=^nothing$"],
        "--engines=fast is unknown": ["--engines=fast"],
        "--baseline=/nowhere holds no": ["--baseline=/nowhere"],
        "--json=/nowhere/rows.json lies in no folder": ["--json=/nowhere/rows.json"],
        "--match=mini matches only rows that need --mini_imagenet_dir": ["--match=mini"],
        "--omniglot_archives=/nowhere is not a folder": ["--match=omniglot", "--omniglot_archives=/nowhere"],
        "--mini_imagenet_dir=/nowhere": ["--match=mini", "--mini_imagenet_dir=/nowhere"],
    }
    for message, printed in zip(wrong, refusals("benchmark", [*wrong.values()]), strict=True):
        assert message in printed and len(printed.strip().splitlines()) == 1


def test_it_replaces_no_file_if_all_rows_fail(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark, "in_fresh_process", lambda row: None)
    monkeypatch.setattr(benchmark, "matmul_rate", lambda: 1.0)
    files = {flag: tmp_path / flag for flag in ("json", "report")}
    for path in files.values():
        path.write_text("precious")
    options = ["--match=^sine 3 400 1$", "--quick", "--engines=lifetime", "--rounds=2"]
    options += [f"--{flag}={path}" for flag, path in files.items()]
    with flagsaver.flagsaver(), pytest.raises(SystemExit, match="^2 of 2 processes failed"):
        benchmark.main(benchmark.FLAGS(["benchmark", *options]))
    assert not capsys.readouterr().out
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"json": "precious", "report": "precious"}


def test_it_measures_the_network_whose_arithmetic_it_counts():
    config = configure(**measure.flags_of({"task": "sine", "num_plastic_layers": 9, "lifetime": 400}))
    learner = learners.build(config, config.make_task())
    assert [tuple(layer.kernel.shape) for layer in learner.network.head] == benchmark.layer_sizes(9)
