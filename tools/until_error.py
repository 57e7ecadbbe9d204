"""Measures how long meta-training takes to reach a given validation error.

    python tools/benchmark.py --until_error=0.0016 --flagfile=flags/sine_compact.cfg --continual --method=flp
    git worktree add /tmp/before 7550ab6
    python tools/benchmark.py --until_error=0.0016 --flagfile=flags/sine_paper.cfg,flags/mine.cfg --baseline=/tmp/before

Every flagfile is run with this library and with that of each `--baseline`, which reads its
own file of that name in `flags/` if it has one. The runs follow one after the other, each in a
fresh process with the command line of its checkout. The measured time is that of the outer steps, with
compilation and without evaluations. All other flags go to every run.
"""

import argparse
import json
import math
import os
import platform
import re
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Number of evaluations of a run, unless `--eval_every` is given.
EVALUATIONS = 100
COLUMNS = ("flagfile", "checkout", "seed", "seconds", "lifetimes", "error", "best_error", "seconds_in_all")


class Over(BaseException):
    """The error is reached, or the last outer step is done."""


def measure(target: float, arguments: Sequence[str]) -> dict[str, Any]:
    """Trains with the flp_tf on `PYTHONPATH` in this process; returns seconds, lifetimes and errors.

    Older checkouts have no hook for evaluations. For this reason all checkouts are observed in the same way:
    from outside, through functions that each of them calls.

    Args:
        target: the error to reach.
        arguments: of `flp_tf.main`.
    """
    from flp_tf.meta.evaluation import Evaluator
    from flp_tf.meta.trainer import Trainer

    curve: list[tuple[float, int, float]] = []
    of_run: dict[str, Any] = {"seconds": 0.0}
    outer_step, evaluate = Trainer.outer_step, Evaluator.__call__

    def timed(trainer: Trainer) -> dict[str, float]:
        began, of_run["trainer"] = time.perf_counter(), trainer
        metrics = outer_step(trainer)
        of_run["seconds"] += time.perf_counter() - began
        return metrics

    def watched(evaluator: Evaluator, seed: int, episodes: int, split: str = "test") -> Any:
        evaluation = evaluate(evaluator, seed, episodes, split)
        if split == "validation":
            trainer = of_run["trainer"]
            error = float(evaluation.meta_test()["mean"])
            curve.append((of_run["seconds"], trainer.episodes, error))
            if error <= target or trainer.step == trainer.steps:
                raise Over
        return evaluation

    Trainer.outer_step, Evaluator.__call__ = timed, watched
    with tempfile.TemporaryDirectory() as logdir:
        sys.argv = ["flp_tf", *arguments, f"--logdir={logdir}/run"]
        try:
            runpy.run_module("flp_tf.main", run_name="__main__", alter_sys=False)
        except Over:
            pass
        except SystemExit as ended:
            # Compared by name, because older checkouts have a class of their own.
            if type(ended.__context__).__name__ != "Diverged":
                raise
            curve.append((of_run["seconds"], of_run["trainer"].episodes, math.nan))
    seconds, lifetimes, error = curve[-1]
    return {
        "seconds": seconds if error <= target else None,
        "lifetimes": lifetimes,
        "error": _finite(error),
        "best_error": min((error for _, _, error in curve if math.isfinite(error)), default=None),
        "seconds_in_all": seconds,
        "curve": [{"seconds": s, "lifetimes": n, "error": _finite(e)} for s, n, e in curve],
    }


def _finite(error: float) -> float | None:
    """Returns an error, or None if it is not finite, because JSON has no such numbers."""
    return error if math.isfinite(error) else None


def in_fresh_process(target: float, checkout: Path, flagfile: Path, arguments: Sequence[str]) -> dict[str, Any] | None:
    """Returns the result of `measure` with the library of a checkout; prints a message and returns None on failure."""
    own = checkout / "flags" / flagfile.name
    flagfile = own if checkout != ROOT and own.exists() else flagfile
    often = evaluations(flagfile, arguments)
    command = [sys.executable, __file__, f"--measure={target}", f"--flagfile={flagfile}", *often, *arguments]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        done = subprocess.run([*command, f"--json={file.name}"], env=environment, stdout=subprocess.DEVNULL)
        content = Path(file.name).read_text()
    if done.returncode or not content:
        print(f"{flagfile} with {checkout} failed", file=sys.stderr)
        return None
    return json.loads(content)


def evaluations(flagfile: Path, arguments: Sequence[str]) -> list[str]:
    """Returns the flag for `EVALUATIONS` evaluations in a run; none if the length of the run is not known.

    Args:
        flagfile: of the run. If it is of an older checkout, this library may not know its flags. The length of the
            run is then known only if the flagfile or the other flags give it.
        arguments: the other flags; one of them may already give the number of evaluations.
    """
    from flp_tf.commandline import read
    from flp_tf.errors import InputError
    from flp_tf.runs.config import resolve

    if any(flag.lstrip("-").startswith("eval_every") for flag in arguments):
        return []
    try:
        line = read([f"--flagfile={flagfile}", *arguments])
        lengths = [resolve(line.given, line.optional).episodes]
    except InputError:
        flags = [*flagfile.read_text().splitlines(), *arguments]
        lengths = [int(match[1]) for flag in flags if (match := re.match(r"--?episodes=(\d+)", flag))]
    return [f"--eval_every={max(length // EVALUATIONS, 1)}" for length in lengths[-1:]]


def table(rows: Sequence[dict[str, Any]], target: float) -> str:
    """Returns the rows as Markdown."""
    lines = [f"Seconds of meta-training to a validation error of {target:g}, {platform.node()}, {_cores()}.", ""]
    lines += [f"| {' | '.join(COLUMNS)} |".replace("_", " "), "|" + " --- |" * len(COLUMNS)]
    for row in rows:
        lines.append(f"| {' | '.join(_text(row[name], name) for name in COLUMNS)} |")
    return "\n".join(lines)


def _text(value: Any, column: str) -> str:
    """Returns a cell of the table."""
    if value is None:
        return "not reached" if column == "seconds" else "not finite"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cores() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores"


def main(argv: Sequence[str]) -> None:
    """Measures all runs and writes the table; with `--measure`, measures one of them in this process."""
    parser = argparse.ArgumentParser(prog="benchmark --until_error", allow_abbrev=False)
    parser.add_argument("--until_error", type=float)
    parser.add_argument("--measure", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--flagfile", action="append", default=[], help="Several are joined by commas.")
    parser.add_argument("--baseline", action="append", default=[], help="Folder of another checkout of flp_tf.")
    parser.add_argument("--seeds", default="0", help="Seeds of each contestant, joined by commas.")
    parser.add_argument("--json", default="", help="File for rows and curves.")
    options, rest = parser.parse_known_args(argv)
    if options.measure is not None:
        row = measure(options.measure, [*(f"--flagfile={name}" for name in options.flagfile), *rest])
        Path(options.json).write_text(json.dumps(row))
        return
    flagfiles = [Path(name).resolve() for names in options.flagfile for name in names.split(",")]
    if not flagfiles:
        sys.exit("benchmark: --until_error needs a --flagfile")
    if missing := [str(path) for path in flagfiles if not path.is_file()]:
        sys.exit(f"benchmark: --flagfile={missing[0]} is no file")
    checkouts = [ROOT, *(Path(folder).resolve() for folder in options.baseline)]
    if missing := [str(path) for path in checkouts if not (path / "flp_tf").is_dir()]:
        sys.exit(f"benchmark: --baseline={missing[0]} holds no folder flp_tf; legal is a checkout of this repository")
    if any(re.match(r"--?seed\b", flag) for flag in rest):
        sys.exit("benchmark: --seed does not go with --until_error; --seeds names the seeds, joined by commas")
    if not all(seed.isdecimal() for seed in options.seeds.split(",")):
        sys.exit(f"benchmark: --seeds={options.seeds} cannot be read; legal are integers joined by commas")
    if options.json and not Path(options.json).parent.is_dir():
        sys.exit(f"benchmark: --json={options.json} lies in no folder; make it, or name another file")
    rows = []
    for seed in options.seeds.split(","):
        for flagfile in flagfiles:
            for checkout in checkouts:
                found = in_fresh_process(options.until_error, checkout, flagfile, [*rest, f"--seed={seed}"])
                if found:
                    rows.append({"flagfile": flagfile.name, "checkout": str(checkout), "seed": int(seed), **found})
                    print(table(rows[-1:], options.until_error).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(rows, options.until_error))
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    if not rows:
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
