"""The search of the outer loop's flags: spaces, cost, trials that go on, and two workers on one study."""

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter

import commands
import numpy as np
import pytest
from absl.testing import flagsaver
from test_tools import run_tool

from flp_tf.commandline import read
from flp_tf.runs.config import resolve
from flp_tf.runs.locks import locked

sys.path.insert(0, str(commands.ROOT / "tools"))

import spaces
import study
import trials
from experiments import METHODS

needs_optuna = pytest.mark.skipif(
    not importlib.util.find_spec("optuna"), reason="Optuna is not installed (requirements-search.txt)"
)
SPACE = "sine_compact_continual_feature_reuse"
SMALL = (
    "--flags=--num_sines=2,--lifetime=8,--network=8,--batch_size=4,--query_size=4,--jit_compile=false,"
    "--curriculum=50%:50%,--schedule=constant"
)


def base_of(space, *arguments):
    """Returns the configuration of a space's flagfile, and what it was read from."""
    network, cell = trials.cells()[space]
    line = read([*cell.flags(network), *arguments])
    return resolve(line.given, line.optional), line


@pytest.mark.parametrize("space", sorted(trials.cells()))
def test_every_value_of_a_space_is_legal(space):
    """Each flag of a space is one of its method; the ends of its ranges read; the flagfile's values are the start."""
    archives = ["--omniglot_archives=DIR"] if "omniglot" in space else []
    base, line = base_of(space, *archives)
    network, cell = trials.cells()[space]
    ranges = spaces.ranges(network, cell.name)
    full = base.lifetime if hasattr(base, "lifetime") else 25
    start = trials.as_in_the_flagfile(base, ranges)
    assert start.keys() == ranges.keys() and start.get("curriculum", spaces.FLAGFILE) == spaces.FLAGFILE
    for end in range(max(len(values) for values in ranges.values())):
        values = {name: values[end % len(values)] for name, values in ranges.items()}
        config = resolve(line.given | trials.flags_of(values, base, 1e6, full), line.optional)
        for name, value in values.items():
            if name not in ("curriculum", "warmup"):
                assert getattr(config, name) == value
        phases = config.phases()
        ends = [*(phase.start for phase in phases[1:]), config.episodes]
        cost = sum(phase.length(full) * (stop - phase.start) for phase, stop in zip(phases, ends))
        assert cost == pytest.approx(1e6, rel=0.01)
        assert config.warmup_steps == round(values["warmup"] * config.episodes / config.meta_batch)


def test_all_methods_are_searched():
    searched = METHODS.keys() - {*spaces.NOT_SEARCHED}
    assert {cell.name for _, cell in trials.cells().values()} == searched
    assert all(spaces.ranges("sine_compact", name) for name in searched)


def test_shares_of_the_flagfile():
    """100:20000,200:4000 of 27,000 lifetimes, with 400 steps at last."""
    base, _ = base_of("sine_compact_continual_flp2", "--curriculum=100:20000,200:4000", "--episodes=27000")
    assert trials.shares_of(base, 400) == [(100, 2.0 / 4.0), (200, 0.8 / 4.0)]
    again = trials.spend(4e6, trials.shares_of(base, 400), 400, 1)
    assert again == {"curriculum": "100:20000,200:4000", "episodes": 27000}


@pytest.fixture
def search_of(tmp_path):
    """Returns a function that opens a small search in this process."""
    import search

    def make(*arguments):
        search.FLAGS.unparse_flags()
        search.FLAGS(["search", SPACE, SMALL, "--cost=160", "--lifetimes=2", f"--out={tmp_path}", *arguments])
        return search.searched(SPACE, tmp_path)

    return make


def table_of(folder):
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


@needs_optuna
@pytest.mark.slow
def test_a_trial_is_judged_by_validation_alone_at_a_fixed_cost(search_of, bare, tmp_path):
    import search

    made = search_of("--trials=1")
    search.work(made)
    search.report(made)
    (row,) = table_of(tmp_path)
    (trial,) = made.study.get_trials()
    assert row["status"] == "finished" and row["trial"] == "0" and float(row["value"]) == trial.value > 0
    assert trial.params.keys().isdisjoint({"curriculum", "schedule"}), "what --flags gives is not searched"
    run = tmp_path / "trials" / "0000" / "run"
    assert not (run / "result.json").exists(), "nothing is tested on the meta-test"
    config = json.loads((run / "config.json").read_text())
    # A third of the inner steps is spent on the first phase, of as many lifetimes as the second.
    assert config["curriculum"] == "4:13" and config["episodes"] == 13 + 13
    assert {"trial", "slow_rate", "average"} <= row.keys() and "| 1 | 0 | finished |" in (
        tmp_path / "search.md"
    ).read_text()
    line = read([f"--flagfile={tmp_path / 'best.cfg'}"])
    assert resolve(line.given, line.optional).curriculum == "4:13"
    # No other trial is needed.
    search.work(search_of("--trials=1"))
    assert len(made.study.get_trials()) == 1


@needs_optuna
def test_an_interrupted_trial_goes_on_and_one_in_work_is_left_alone(search_of, tmp_path, monkeypatch):
    import search

    from flp_tf.runs.interruption import Interrupted

    made = search_of("--trials=2")
    with monkeypatch.context() as patch:
        patch.setattr("flp_tf.runs.training.train", lambda *_, **__: (_ for _ in ()).throw(Interrupted(15, 3)))
        assert not search.work(made)
    begun = made.study.get_trials()[0]
    with locked(tmp_path / "trials" / "0000"), made.next_trial() as other:
        assert other.number == 1
    with made.next_trial() as again, made.next_trial() as second, made.next_trial() as third:
        assert again.number == 0 and again.params == begun.params and second.number == 1 and third is None


@needs_optuna
def test_a_stopped_search_says_so(search_of, monkeypatch, capsys):
    import search

    from flp_tf.runs.interruption import Interrupted

    search_of("--trials=1")
    monkeypatch.setattr("flp_tf.runs.training.train", lambda *_, **__: (_ for _ in ()).throw(Interrupted(15, 3)))
    with pytest.raises(SystemExit) as left:
        search.main(["search", SPACE])
    assert left.value.code == search.INTERRUPTED
    assert "search: stopped; the same command goes on" in capsys.readouterr().err


@needs_optuna
def test_a_signal_ends_the_workers(search_of, tmp_path, monkeypatch):
    """In the place of each worker is a process that leaves as an interrupted one does."""
    import search

    search_of("--jobs=2")
    start, workers = subprocess.Popen, []

    def stub(_):
        worker = start(
            ["sh", "-c", f"trap 'kill $!; exit {search.INTERRUPTED}' TERM; sleep 60 & echo; wait"], stdout=-1
        )
        worker.stdout.readline()  # By now it has its trap.
        workers.append(worker)
        if len(workers) == 2:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return worker

    monkeypatch.setattr(search.subprocess, "Popen", stub)
    assert search.spread(SPACE, tmp_path) is False
    assert [worker.poll() for worker in workers] == [search.INTERRUPTED] * 2


@needs_optuna
def test_only_some_flags_are_searched(search_of):
    """The others stay as they are in the flagfile, also the phases of the curriculum and the warm-up."""
    made = search_of("--only=slow_rate,plasticity_scale")
    assert made.ranges.keys() == {"slow_rate", "plasticity_scale"}
    base, _ = base_of(SPACE, "--curriculum=100:2000,200:800", "--episodes=4000", "--warmup_steps=400")
    flags = trials.flags_of({"slow_rate": 0.00123456}, base, 840_000 / 2, 400)
    assert flags == {
        "slow_rate": 0.00123,
        "curriculum": "100:1000,200:400",
        "episodes": 2000,
        "warmup_steps": 200,
        "eval_every": 100,
    }
    with pytest.raises(study.InputError, match="--only=rate: rate is not searched; legal are slow_optimizer, "):
        search_of("--only=rate")


@needs_optuna
@pytest.mark.parametrize("what", ["hopeless", "diverged"])
def test_hopeless_and_diverged_trials(what, search_of, tmp_path, monkeypatch):
    import search

    from flp_tf.meta.trainer import Diverged
    from flp_tf.runs.interruption import Stopped

    made = search_of("--trials=1")

    def train(trainer, *_, on_evaluation, **__):
        on_evaluation(type("Point", (), {"inner_steps": trainer.all_inner_steps // 2, "error": np.nan}))
        raise Stopped(3) if what == "hopeless" else Diverged("at lifetime 3")

    monkeypatch.setattr("flp_tf.runs.training.train", train)
    search.work(made)
    search.report(made)
    (row,), (trial,) = table_of(tmp_path), made.study.get_trials()
    assert row["status"] == what and float(row["value"]) == study.DIVERGED
    assert trial.intermediate_values == {10: study.DIVERGED}
    assert trial.state.name == ("PRUNED" if what == "hopeless" else "COMPLETE")
    assert not (tmp_path / "best.cfg").exists()


@needs_optuna
def test_a_process_that_is_killed_before_it_has_drawn_all_values_loses_no_trial(search_of):
    """Not even the first, which has those of the flagfile."""
    made = search_of("--trials=2")
    begun = made.study.ask()
    begun.suggest_float("slow_rate", *made.ranges["slow_rate"], log=True)
    with made.next_trial() as trial:
        assert trial.number == begun.number == 0 and trial.params.keys() == made.ranges.keys()
        assert trial.params == trials.as_in_the_flagfile(made.base, made.ranges)


@needs_optuna
def test_another_search_in_the_folder_is_refused(search_of):

    search_of("--trials=1")
    for flag, before in (("--cost=200", "cost, 160"), ("--lifetimes=3", "lifetimes, 2")):
        with pytest.raises(study.InputError, match=f"--out=.* holds a search with other {before}"):
            search_of(flag)


@needs_optuna
def test_flags_that_are_given_are_not_searched(search_of):

    assert not {"curriculum", "schedule"} & search_of("--trials=1").ranges.keys()
    with pytest.raises(study.InputError, match="--only=schedule: schedule is fixed by --flags"):
        search_of("--only=schedule")
    for flag in ("--episodes=3", "--warmup_steps=3", "--eval_every=3"):
        name = flag.partition("=")[0]
        with pytest.raises(study.InputError, match=f"--flags: {name} follows from --cost"):
            search_of(f"{SMALL},{flag}")
    with pytest.raises(study.InputError, match="--flags: --lifetimes does not go with --cost"):
        search_of(f"{SMALL},--curriculum=,--lifetimes=3")


@needs_optuna
def test_flags_of_all_trials_read_again(search_of):
    """Also a list, such as alphabets."""
    made = search_of("--trials=1")
    alphabets = ("--omniglot_archives=DIR", "--meta_test_alphabets=Korean,Tagalog")
    made.base, line = base_of("omniglot_compact_continual_flp2", *alphabets)
    made.given = line.given
    again = read(made.flags())
    assert made.base.meta_test_alphabets == ("Korean", "Tagalog")
    assert not resolve(again.given).differences(made.base, exactly=True)


def test_a_flagfile_outside_of_the_ranges_is_refused():
    base, _ = base_of(SPACE, "--slow_rate=0.5")
    with pytest.raises(trials.InputError, match="slow_rate is 0.5 in the flagfile; the search has 0.0001 to 0.01"):
        trials.as_in_the_flagfile(base, spaces.ranges("sine_compact", "feature_reuse"))


@needs_optuna
@pytest.mark.parametrize("damage", ["cut", "garbage", "folder"])
def test_a_damaged_journal_is_named(damage, search_of, tmp_path):

    search_of("--trials=1")
    journal = tmp_path / "journal.log"
    content = journal.read_bytes()
    journal.unlink()
    if damage == "folder":
        journal.mkdir()
    else:
        journal.write_bytes(content[:-15] + content if damage == "cut" else b"garbage\n" + content)
    with pytest.raises(study.InputError, match=f"--out={tmp_path}: {journal} cannot be read"):
        search_of("--trials=1")


@needs_optuna
@pytest.mark.slow
def test_two_workers_share_a_study(tmp_path, monkeypatch):
    """Each trial is of two outer steps. The workers are processes; who starts them is this one."""
    import search

    few = ["--cost=16", "--lifetimes=2", "--only=slow_rate", "--trials=2", "--jobs", "2"]
    monkeypatch.setattr(sys, "argv", ["search", SPACE, f"{SMALL},--curriculum=", *few, f"--out={tmp_path}"])
    with flagsaver.flagsaver():
        search.FLAGS.unparse_flags()
        search.main(search.FLAGS(sys.argv))
    rows = table_of(tmp_path)
    assert Counter(row["trial"] for row in rows) == {"0": 1, "1": 1}
    assert {row["status"] for row in rows} <= {"finished", "diverged", "hopeless"}
    assert [int(row["rank"]) for row in rows] == [1, 2]
    values = [float(row["value"]) for row in rows if row["status"] == "finished"]
    assert values == sorted(values)


@pytest.mark.slow
def test_search_refuses_an_unknown_space():
    done = run_tool("search", "sine")
    assert done.returncode != 0 and "legal values: sine_compact_iid_feature_reuse" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
