"""One command for a table of the paper: trains missing runs, evaluates, analyses and reports.

    tools/reproduce table1 --budget=30m
    tools/reproduce table2 --network=compact --seeds=0,1 --only=flp2,feature_reuse --jobs=2

Every cell is a run directory `OUT/NETWORK_ORDER_METHOD_seedS`. Finished runs are kept and
interrupted ones continue (`--resume`, the default), so the command can be repeated
until the table is full. For a finished run, the table needs only its `result.json`, and the
figures need only its checkpoint. The runs of `docs/results.md` are in `networks/table1` and
`networks/table2`, and can be copied into OUT.

On several machines that share the folder OUT, the command distributes the runs over
them: it skips runs that another process trains.
"""

import concurrent.futures
import contextlib
import functools
import json
import os
import queue
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from absl import app, flags

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from children import check_handed_over, core_shares, ended_together, pin  # noqa: E402
from experiments import TABLES, Cell, Figure, Table  # noqa: E402
from report import FILES, compared, draw_comparison, failed, row_of, write_report  # noqa: E402

from flp_tf.errors import InputError  # noqa: E402
from flp_tf.files import check_complete  # noqa: E402
from flp_tf.runs.locks import locked  # noqa: E402

FLAGS = flags.FLAGS
# The figure of all networks, which needs only their results.
COMPARISON = "comparison"
# Processes that this one has started.
PROCESSES: list[subprocess.Popen] = []
flags.DEFINE_string("network", "", "Such as compact or paper; the table's first by default.")
flags.DEFINE_list("seeds", ["0"], "Seeds of each cell.")
flags.DEFINE_list("only", [], "Methods to train, such as flp2,gradient3; all by default.")
flags.DEFINE_string(
    "budget",
    "",
    "Of each run: episodes such as 30000, not fewer than the curriculum takes, or minutes such as 30m; the flagfile's "
    "episodes by default.",
)
flags.DEFINE_bool("train", True, "Train what is missing; with --notrain, report what is there.")
flags.DEFINE_bool("resume", True, "Continue interrupted runs; with --noresume they count as they stand.")
flags.DEFINE_string("out", "", "Folder of runs and report; runs/TABLE in the working directory by default.")
flags.DEFINE_list("figures", [], "Figures to draw, or none; all of the table's by default.")
flags.DEFINE_integer("adaptability_episodes", 4000, "Lifetimes for which adaptability goes on.", lower_bound=1)
flags.DEFINE_float(
    "failed_above",
    0.9,
    "Share of the error before a lifetime; a training whose network leaves more of it counts as failed.",
    lower_bound=0.0,
)
flags.DEFINE_integer("jobs", 1, "Runs to train at a time, each on its share of the cores.", lower_bound=1)
flags.DEFINE_list("flags", [], "Further flags for every run, such as --lifetime=40,--eval_episodes=4.")


def runs(table: Table, out: Path) -> Iterator[tuple[Cell, int, Path]]:
    """Yields every cell, seed and run directory."""
    for seed in map(int, FLAGS.seeds):
        for cell in table.cells:
            if not FLAGS.only or cell.name in FLAGS.only:
                yield cell, seed, run_directory(table, out, cell.order, cell.name, seed)


def run_directory(table: Table, out: Path, order: str, name: str, seed: int) -> Path:
    """Returns the folder of a cell's run."""
    return out / f"{network(table)}_{order}_{name}_seed{seed}"


def network(table: Table) -> str:
    """Returns the flagfile of the chosen network, without its folder and `.cfg`."""
    return table.networks[FLAGS.network or next(iter(table.networks))]


def start(*arguments: str, output: IO | None = None) -> subprocess.Popen:
    """Starts `flp_tf.main` of this checkout in the working directory, to which relative paths refer.

    Args:
        *arguments: of `flp_tf.main`.
        output: the file that it prints to.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "flp_tf.main", *arguments]
    PROCESSES.append(subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=output, stderr=output))
    return PROCESSES[-1]


def train(arguments: list[str], logdir: Path, shares: queue.Queue) -> None:
    """Trains a run to its end or to the budget; a stop at the budget leaves a checkpoint.

    Args:
        arguments: of `flp_tf.main`.
        logdir: the run directory.
        shares: shares of cores; the run takes one and puts it back. If there is more than one
            share, other runs train beside this one, and it prints to `logdir.log`.
    """
    cores = shares.get()
    if (logdir / "result.json").exists() or in_use(logdir):
        print(f"== {logdir.name}: another process trains it", flush=True)
        shares.put(cores)
        return
    print(f"== {logdir.name}", flush=True)
    log = logdir.with_suffix(".log")
    try:
        with log.open("a") if FLAGS.jobs > 1 else contextlib.nullcontext() as output:
            process = start(*arguments, output=output)
            pin(process, cores)
            try:
                process.wait(timeout=60 * float(FLAGS.budget[:-1]) if FLAGS.budget.endswith("m") else None)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                process.wait()
    finally:  # Otherwise the next run would wait for ever.
        shares.put(cores)
    if process.returncode not in (0, 128 + signal.SIGTERM):
        why = f" ({log} says why)" if FLAGS.jobs > 1 else ""
        print(
            f"{logdir.name} ended with {process.returncode}{why}; the table has its last checkpoint, if there is one.",
            file=sys.stderr,
        )


def in_use(logdir: Path) -> bool:
    """Returns whether a process trains in a run directory, on this machine or on another."""
    try:
        with locked(logdir) if logdir.is_dir() else contextlib.nullcontext():
            return False
    except InputError:
        return True


def train_missing(table: Table, out: Path) -> None:
    """Trains all runs that are not finished, `--jobs` at a time."""
    out.mkdir(parents=True, exist_ok=True)
    shares = queue.Queue()
    for share in core_shares(FLAGS.jobs):
        shares.put(share)
    budget = [f"--episodes={FLAGS.budget}"] if FLAGS.budget.isdigit() else []
    with concurrent.futures.ThreadPoolExecutor(FLAGS.jobs) as pool:
        training = []
        for cell, seed, logdir in runs(table, out):
            started = (logdir / "config.json").exists()
            if (logdir / "result.json").exists() or (started and not FLAGS.resume):
                continue
            arguments = [*cell.flags(network(table)), f"--seed={seed}", f"--logdir={logdir}"]
            training.append(pool.submit(train, [*arguments, *FLAGS.flags, *budget], logdir, shares))
        try:
            for run in training:
                run.result()
        except KeyboardInterrupt:  # The runs got the signal, too: they save and end, and no other run begins.
            pool.shutdown(cancel_futures=True)
            raise


def measuring() -> list[str]:
    """Returns those of `--flags` that also apply to evaluation and analysis."""
    return [flag for flag in FLAGS.flags if flag.startswith("--eval_episodes=")]


def result(logdir: Path) -> dict | None:
    """Returns the meta-test of a run and its planned lifetimes; evaluates the run if it is not finished.

    A run that a process trains is not evaluated; its last evaluation is used, if there is one. A run that
    diverged has only `diverged`.
    """
    if not (logdir / "result.json").exists() and (logdir / "config.json").exists() and not in_use(logdir):
        if diverged(logdir):
            return {"diverged": True}
        if (logdir / "checkpoints").exists():
            start("--mode=evaluate", f"--logdir={logdir}", *measuring()).wait()
    for name in ("result.json", "evaluation.json"):
        if (logdir / name).exists():
            planned = json.loads((logdir / "config.json").read_text())["episodes"]
            found = {"planned": planned, **json.loads((logdir / name).read_text())}
            return {"diverged": True} if "diverged" in found else found
    return None


def collect(table: Table, out: Path) -> list[dict]:
    """Returns one row per cell, over all seeds that have a result or diverged."""
    cells: dict[Cell, list[dict]] = {cell: [] for cell in table.cells}
    for cell, _, logdir in runs(table, out):
        if found := result(logdir):
            cells[cell].append(found)
    return [row_of(cell, found, FLAGS.failed_above) for cell, found in cells.items() if found]


def analyse(table: Table, rows: list[dict], out: Path) -> list[Path]:
    """Makes the requested figures that are possible; returns them, and existing ones that were not requested."""
    drawing = {COMPARISON: lambda target: draw_comparison(table, rows, target / f"{COMPARISON}.png")}
    drawing |= {folder: functools.partial(draw, table, out, folder) for folder in table.figures}
    pictures = []
    for folder, drawn in drawing.items():
        target = out / "figures" / folder
        # An older picture stays if its figure is not requested, but not if its runs are gone.
        if (FLAGS.figures and folder not in FLAGS.figures) or drawn(target):
            pictures += sorted(target.glob("*.png"))
    return pictures


def shown(table: Table, out: Path, figure: Figure) -> list[Path]:
    """Returns the runs that a figure shows: all runs of its cells that did not fail and have a checkpoint."""
    logdirs = (
        run_directory(table, out, order, name, int(seed)) for name, order in figure.cells for seed in FLAGS.seeds
    )
    return [logdir for logdir in logdirs if (logdir / "checkpoints").exists() and trained(logdir)]


def trained(logdir: Path) -> bool:
    """Returns whether a training has not failed so far."""
    file = logdir / "result.json"
    return not (failed(json.loads(file.read_text()), FLAGS.failed_above) if file.exists() else diverged(logdir))


@functools.cache
def diverged(logdir: Path) -> bool:
    """Returns whether the meta-training of a run diverged; its events are read once for all figures."""
    # Imported here, because it takes seconds (TensorFlow), and few runs have no result.
    from flp_tf.runs.summaries import has_diverged

    return has_diverged(logdir)


def draw(table: Table, out: Path, folder: str, target: Path) -> bool:
    """Runs the analysis of a figure of the table into the folder `target`; returns whether there is a picture."""
    figure = table.figures[folder]
    if not (logdirs := shown(table, out, figure)):
        return False
    arguments = [f"--analysis={figure.analysis}", f"--logdir={','.join(map(str, logdirs))}", f"--output={target}"]
    arguments += figure.flags
    if figure.analysis == "adaptability":
        arguments.append(f"--episodes={FLAGS.adaptability_episodes}")
    print(f"== {folder}", flush=True)
    if ended := start("--mode=analyze", *arguments, *measuring()).wait():
        print(f"{folder} ended with {ended}; the report is without it.", file=sys.stderr)
    return not ended


def check(flag: str, values: Iterable[str], legal: Iterable[str]) -> None:
    """Exits with a one-line message unless all values of a flag are legal."""
    if unknown := [value for value in values if value not in legal]:
        sys.exit(f"reproduce: --{flag}={','.join(unknown)} is unknown; legal values: {', '.join(legal)}")


def main(argv: list[str]) -> None:
    """Makes the report of the table that the command line names."""
    if len(argv) != 2 or argv[1] not in TABLES:
        sys.exit(f"reproduce: name a table; legal values: {', '.join(TABLES)}")
    table = TABLES[argv[1]]
    check("network", filter(None, [FLAGS.network]), table.networks)
    check("only", FLAGS.only, dict.fromkeys(cell.name for cell in table.cells))
    check("figures", FLAGS.figures, [COMPARISON, *table.figures, "none"])
    check_handed_over("reproduce", FLAGS.flags)
    if not all(seed.isdecimal() for seed in FLAGS.seeds):
        sys.exit(f"reproduce: --seeds={','.join(FLAGS.seeds)} does not read; legal are integers (0,1)")
    if not re.fullmatch(r"|\d+|\d+(\.\d+)?m", FLAGS.budget):
        sys.exit(f"reproduce: --budget={FLAGS.budget} does not read; legal are episodes (500) or minutes (30m)")
    if FLAGS["out"].present and not FLAGS.out:
        sys.exit("reproduce: --out= names no folder")
    out = Path(FLAGS.out or Path("runs") / argv[1]).expanduser().resolve()
    try:
        check_complete([out / name for name in FILES], "out")
        with ended_together(PROCESSES):
            report(table, out)
    except InputError as error:
        sys.exit(f"reproduce: {error}")
    except KeyboardInterrupt as ended:
        sys.exit(getattr(ended, "status", 128 + signal.SIGINT))


def report(table: Table, out: Path) -> None:
    """Trains missing runs, evaluates, analyses, and writes the report."""
    if FLAGS.train:
        train_missing(table, out)
    rows = compared(collect(table, out), table.reference)
    machines = sorted({machine for row in rows for machine in row["machines"]})
    provenance = f"`tools/reproduce {' '.join(sys.argv[1:])}`, {', '.join([time.strftime('%Y-%m-%d'), *machines])}"
    write_report(table, rows, analyse(table, rows, out), out, provenance)
    print(f"Report: {out / 'report.md'} and {out / 'report.html'}")


if __name__ == "__main__":
    app.run(main)
