"""Searches the outer loop's flags of a method with Optuna, by validation error at a fixed cost.

    tools/search sine_compact_continual_flp2 --trials=40 --jobs=2
    tools/search sine_compact_continual_flp2 --cost=200000 --only=slow_rate,plasticity_scale

`spaces.py` has the ranges. A trial meta-trains with the flags that Optuna suggests until it
has simulated `--cost` inner steps, so that its value does not depend on the machine. The
value is the error on validation lifetimes, never on those of the meta-test. Trial 0 has the
values of the flagfile. A flag that `--flags` gives is not searched. Trials that are worse than
the median of the others at the same cost end early. Trials that diverge have the value
`DIVERGED`.

The study is a journal in the folder `--out`, and each trial is a run directory below it. The
same command continues an interrupted search. On several machines that share
the folder, it distributes the trials over them.
"""

import contextlib
import difflib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import spaces  # noqa: E402
from children import check_handed_over, core_shares, ended_together, pin  # noqa: E402
from search_report import write  # noqa: E402
from study import Search, Settings  # noqa: E402
from trials import cells  # noqa: E402

from flp_tf.errors import InputError  # noqa: E402

FLAGS = flags.FLAGS
flags.DEFINE_integer("trials", spaces.TRIALS, "Trials of the whole search, on all machines.", lower_bound=1)
flags.DEFINE_integer("jobs", 1, "Trials at a time on this machine, each on its share of the cores.", lower_bound=1)
flags.DEFINE_string("out", "", "Folder of the study; runs/search/SPACE in the working directory by default.")
flags.DEFINE_integer("cost", 0, "Inner steps of a trial; that of spaces.py for the network by default.", lower_bound=0)
flags.DEFINE_integer("lifetimes", 50, "Validation lifetimes that a trial is judged by at its end.", lower_bound=1)
flags.DEFINE_list(
    "only",
    [],
    "Search these of the space, such as slow_rate,plasticity_scale; the others stay as they are in the flagfile.",
)
flags.DEFINE_list("flags", [], "Further flags for every trial, such as --num_sines=5,--seed=1.")
flags.DEFINE_bool("worker", False, "Work on trials in this process; the search starts such processes.")

# Exit code if a signal left trials unfinished; they can continue later.
INTERRUPTED = 75
MISSING = "search: Optuna is missing; pip install -r requirements-search.txt"


def searched(name: str, out: Path) -> Search:
    """Returns the search of a space according to the flags, in the folder `out`."""
    return Search(name, out, Settings(*(FLAGS[flag].value for flag in Settings._fields)))


def work(search: Search) -> bool:
    """Works on trials until there are enough; returns False if a signal came first."""
    from flp_tf.runs.interruption import Interrupted

    while True:
        with search.next_trial() as trial:
            if trial is None:
                return True
            try:
                search.run(trial)
            except Interrupted:
                return False


def report(search: Search) -> None:
    """Writes `trials.csv`, `search.md`, and `best.cfg`, the flagfile of the best trial."""
    write(search.study.get_trials(deepcopy=False), search.out, search.name, search.cost, search.flags())


def spread(name: str, out: Path) -> bool:
    """Starts `--jobs` workers, each on its share of the cores, and waits for them; returns as `work` does."""
    told = [FLAGS[flag].serialize() for flag in Settings._fields]
    command = [sys.executable, __file__, name, *filter(None, told), f"--out={out}", "--worker"]
    workers: list[subprocess.Popen] = []
    # A signal also reaches the workers: they save and end.
    with contextlib.suppress(KeyboardInterrupt), ended_together(workers):
        for share in core_shares(FLAGS.jobs):
            workers.append(subprocess.Popen(command))
            pin(workers[-1], share)
        for worker in workers:
            worker.wait()
    statuses = [worker.wait() for worker in workers]
    if failed := [status for status in statuses if status not in (0, INTERRUPTED)]:
        sys.exit(f"search: {len(failed)} of {len(workers)} workers failed; the same command goes on")
    return INTERRUPTED not in statuses


def close_to(named: list[str]) -> str:
    """Returns the spaces with names similar to the given one; all spaces if there are none."""
    close = [space for name in named[:1] for space in difflib.get_close_matches(name, cells(), n=6)]
    return f" like it: {', '.join(close)}" if close else f": {', '.join(cells())}"


def main(argv: list[str]) -> None:
    """Searches the space that the command line names, and writes the table."""
    if len(argv) != 2 or argv[1] not in cells():
        sys.exit(f"search: name a space, NETWORK_ORDER_METHOD; legal values{close_to(argv[1:])}")
    if not importlib.util.find_spec("optuna"):
        sys.exit(MISSING)
    check_handed_over("search", FLAGS.flags)
    if FLAGS["out"].present and not FLAGS.out:
        sys.exit("search: --out= names no folder")
    out = Path(FLAGS.out or Path("runs") / "search" / argv[1]).expanduser().resolve()
    try:
        search = searched(argv[1], out)
        if FLAGS.jobs > 1 and not FLAGS.worker:
            done = spread(argv[1], out)
        else:
            from flp_tf.meta.distribution import allow_memory_growth

            allow_memory_growth()
            done = work(search)
        if not FLAGS.worker:
            report(search)
        if not done:
            if not FLAGS.worker:
                print("search: stopped; the same command goes on", file=sys.stderr)
            sys.exit(INTERRUPTED)
    except InputError as error:
        sys.exit(f"search: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    app.run(main)
