"""Fixtures of all tests."""

import gc
import json
import os
import shutil
import signal
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Threads of NumPy spin while they wait for each other: where something else has the cores, small products take
# several times as long on two threads as on one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Much of the time of a compilation by XLA goes into making the compiled code quick, which is no code of
# ours. `XLA_FLAGS= tools/test` compiles as a user does.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_llvm_disable_expensive_passes=true --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
)

import commands
import helpers
import keras
import pytest

from flp_tf.meta.trainer import Trainer

# Tracing makes millions of objects. With Python's own thresholds a sixth of the tests' time is spent
# on looking for garbage, most of it among what TensorFlow's modules made when they were imported.
gc.freeze()
gc.set_threshold(200_000, 20, 100)


# Fixtures that make a whole run, and values of parameters that stand for a compilation by XLA.
WHOLE_RUNS = {"finished_run", "interrupted_run"}
XLA = ("xla", "compiled")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks as slow what needs a whole run, or XLA."""
    for item in items:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if WHOLE_RUNS & {*item.fixturenames} or any(isinstance(value, str) and value in XLA for value in values):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def seeded():
    """Starts every test from the same random state, whichever tests ran before it."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def float64(monkeypatch):
    """Makes every learner that a test builds with `helpers` one of float64."""
    monkeypatch.setattr(helpers, "DTYPE", "float64")


@pytest.fixture
def eager():
    """Runs the functions of a test eagerly; see `helpers.eagerly`. What a graph or XLA makes of them, others test."""
    with helpers.eagerly():
        yield


@pytest.fixture
def bare(monkeypatch):
    """Makes the runs of a test bare ones; see `commands.make_bare`."""
    commands.make_bare(monkeypatch)


@pytest.fixture
def without_pictures(monkeypatch):
    """Makes analyses leave out picture and events, half of a tiny one's time; `test_analysis_results.py` has all."""
    monkeypatch.setattr("flp_tf.analysis.result._png", lambda *_: b"")
    monkeypatch.setattr("flp_tf.analysis.result._events", lambda *_: b"")


@pytest.fixture(scope="session", autouse=True)
def signals_are_not_ignored():
    """Tests of signals mean the same under `nohup` and in the background, where some are ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


class FinishedRun(NamedTuple):
    """A run directory, and what `Trainer.outer_step` returned on the way."""

    path: Path
    metrics: list[dict[str, float]]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> FinishedRun:
    """A finished tiny run, to be read only; `run_copy` is for tests that write."""
    outer_step = Trainer.outer_step

    def make(folder):
        metrics = []

        def recorded(trainer):
            metrics.append(outer_step(trainer))
            return metrics[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "outer_step", recorded)
            commands.run(*commands.TINY, f"--logdir={folder / 'run'}")
        (folder / "metrics.json").write_text(json.dumps(metrics))

    folder = commands.made_once(tmp_path_factory, "finished", make)
    return FinishedRun(folder / "run", json.loads((folder / "metrics.json").read_text()))


@pytest.fixture
def run_copy(finished_run, tmp_path) -> Path:
    """A finished tiny run of the test's own."""
    return shutil.copytree(finished_run.path, tmp_path / "run")


@pytest.fixture(scope="session")
def interrupted_run(tmp_path_factory) -> Path:
    """The tiny run, stopped by SIGTERM in its third outer step; to be read only."""
    outer_step = Trainer.outer_step

    def terminated(trainer):
        if trainer.step == 2:
            signal.raise_signal(signal.SIGTERM)
        return outer_step(trainer)

    def make(folder):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
            patch.setattr(Trainer, "outer_step", terminated)
            commands.run(*commands.TINY, f"--logdir={folder / 'run'}")
        assert stopped.value.code == 128 + signal.SIGTERM

    return commands.made_once(tmp_path_factory, "interrupted", make) / "run"
