"""Searches the outer loop's flags of a method with Optuna, by validation error at a fixed cost.

    tools/search sine_compact_continual_flp2 --trials=40 --jobs=2
    tools/search sine_compact_continual_flp2 --cost=200000 --only=slow_rate,plasticity_scale

`spaces.py` has the ranges. A trial meta-trains with the flags that Optuna suggests until it
has simulated `--cost` inner steps, so that its value does not depend on the machine; the
value is the error on validation lifetimes, never on those of the meta-test. Trial 0 has the
values of the flagfile. A flag that `--flags` gives is not searched. Trials that are worse than
the median of the others at the same cost end early; those that diverge count with the value
`DIVERGED`.

The study is a journal in the folder `--out`, and each trial a run directory below it. The
same command goes on with what was interrupted, and given on several machines that share
the folder, it spreads the trials over them.
"""

import contextlib
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import spaces  # noqa: E402
from children import ended_together  # noqa: E402
from search_report import FILES, write  # noqa: E402
from trials import REPORTS, as_in_the_flagfile, cells, chosen, flags_of, suggest  # noqa: E402

from flp_tf.errors import InputError  # noqa: E402
from flp_tf.registry import text  # noqa: E402
from flp_tf.runs.locks import locked  # noqa: E402

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

# Share of the cost before which no trial is ended, and trials before which none is.
WARMUP, FIRST_TRIALS = 0.3, 6
# Value of a trial that diverged, and the most that a finite error counts.
DIVERGED = 1e3
# Exit code where a signal left trials unfinished; they go on later.
INTERRUPTED = 75
# What a worker is told of the command line.
OF_WORKER = ("trials", "cost", "lifetimes", "only", "flags")
MISSING = "search: Optuna is missing; pip install -r requirements-search.txt"


class Search:
    """A search: what it searches, and where its study lies.

    Args:
        name: of the space.
        out: folder of the study.

    Raises:
        InputError: if flags are not legal, or the folder holds another search.
    """

    def __init__(self, name: str, out: Path):
        import optuna

        from flp_tf.commandline import read
        from flp_tf.runs.config import resolve

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.network, self.cell = cells()[name]
        self.out, self.name = out, name
        line = read([*self.cell.flags(self.network), *FLAGS.flags])
        self.given, self.optional = line.given, line.optional
        self.base = resolve(self.given, self.optional)
        self.cost = FLAGS.cost or spaces.COST.get(self.network, spaces.OTHER_COST)
        self.full = self.base.make_task().steps
        self.ranges = chosen(spaces.ranges(self.network, self.cell.name), FLAGS.only, read(FLAGS.flags).given)
        start = as_in_the_flagfile(self.base, self.ranges)
        out.mkdir(parents=True, exist_ok=True)
        journal = out / "journal.log"
        if not journal.exists() and (taken := [out / name for name in FILES if (out / name).exists()]):
            raise InputError(f"--out={out}: {taken[0]} is not of a search here; move it, or name another folder")
        with exclusively(out):
            self.study = self._study(journal)
            self._check_same()
            if not self.study.get_trials(deepcopy=False):
                self.study.enqueue_trial(start)

    def _study(self, journal: Path) -> Any:
        """Returns the study of a journal, a new one if there is no such file."""
        import optuna
        from optuna.storages.journal import JournalFileBackend

        try:
            return optuna.create_study(
                study_name=self.name,
                storage=optuna.storages.JournalStorage(JournalFileBackend(str(journal))),
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(FIRST_TRIALS, int(WARMUP * REPORTS), n_min_trials=3),
            )
        except (ValueError, KeyError, OSError) as error:
            raise InputError(
                f"--out={self.out}: {journal} cannot be read ({error}); remove what is damaged, or name another folder"
            ) from None

    def _check_same(self) -> None:
        learned = self.base.to_dict().keys() - {*self.base.flags_with("incidental")}
        settings = {"cost": self.cost, "lifetimes": FLAGS.lifetimes, "flags": FLAGS.flags, "ranges": self.ranges}
        settings |= {f"--{flag}": value for flag, value in self.base.to_dict().items() if flag in learned}
        now, before = json.loads(json.dumps(settings)), self.study.user_attrs.get("settings")
        if before is None:
            self.study.set_user_attr("settings", now)
        elif different := [name for name in now if now[name] != before.get(name)]:
            name = different[0]
            raise InputError(f"--out={self.out} holds a search with other {name}, {before.get(name)}; name another one")

    @contextlib.contextmanager
    def next_trial(self) -> Iterator[Any]:
        """A context with a trial of this process's own; None, if there are enough.

        That is one that another process left unfinished, else a new one.
        """
        import optuna

        with contextlib.ExitStack() as claim:
            with exclusively(self.out):
                trial = self._abandoned(claim)
                done = self.study.get_trials(deepcopy=False)
                asked = [one for one in done if one.state != optuna.trial.TrialState.WAITING]
                if trial is None and len(asked) < FLAGS.trials:
                    # What is suggested depends on the trials before alone.
                    self.study.sampler = optuna.samplers.TPESampler(seed=len(asked), constant_liar=True)
                    trial = self.study.ask()
                    suggest(trial, self.ranges)
                    claim.enter_context(locked(self.folder(trial.number)))
            yield trial

    def _abandoned(self, claim: contextlib.ExitStack) -> Any:
        """Returns a trial that is unfinished and that no process works on, claimed; None if there is none."""
        import optuna

        for trial in self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            with contextlib.suppress(InputError):
                claim.enter_context(locked(self.folder(trial.number)))
                if len(trial.params) == len(self.ranges):
                    return optuna.trial.Trial(self.study, trial._trial_id)
                # Its process ended before all of its values were drawn.
                self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        return None

    def flags(self) -> list[str]:
        """Returns the flags that all trials have, of the flagfile and `--flags`, as far as the method has them."""
        return [f"--{flag}={text(getattr(self.base, flag))}" for flag in self.given if hasattr(self.base, flag)]

    def folder(self, number: int) -> Path:
        """Returns the folder of a trial, and makes it."""
        folder = self.out / "trials" / f"{number:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def run(self, trial: Any) -> None:
        """Meta-trains a trial to its end, or to where it is hopeless, and tells the study.

        Raises:
            Interrupted: after a signal; the trial can go on.
            InputError: if its flags are not legal.
        """
        import optuna

        from flp_tf import learners
        from flp_tf.meta.evaluation import Evaluator
        from flp_tf.meta.trainer import Diverged
        from flp_tf.runs.config import resolve
        from flp_tf.runs.directory import RunDirectory
        from flp_tf.runs.interruption import Stopped
        from flp_tf.runs.training import make_trainer, train

        values = flags_of(suggest(trial, self.ranges), self.base, self.cost, self.full)
        config = resolve(self.given | values, self.optional)
        trial.set_user_attr("flags", values)
        directory = RunDirectory(self.folder(trial.number) / "run")
        task = config.make_task()
        learner = learners.build(config, task)
        trainer, evaluator = make_trainer(config, task, learner), Evaluator(learner, task, config.jit_compile)
        reported = set(self.study.get_trials(deepcopy=False)[trial.number].intermediate_values)

        def hopeless(point: Any) -> bool:
            part = REPORTS * point.inner_steps // trainer.all_inner_steps
            if part not in reported:
                reported.add(part)
                trial.report(bounded(point.error), part)
            return trial.should_prune()

        status, value = "finished", DIVERGED
        try:
            with directory.claimed(config):
                train(trainer, evaluator, directory, config, progress=False, on_evaluation=hopeless)
            errors = evaluator(config.seed, FLAGS.lifetimes, "validation")
            value = bounded(errors.meta_test()["mean"])
        except Stopped:
            status = "hopeless"
        except Diverged:
            status = "diverged"
        attributes = {"status": status, "lifetimes": trainer.episodes, "minutes": float(trainer.seconds.numpy()) / 60}
        for name, attribute in attributes.items():
            trial.set_user_attr(name, attribute)
        if status == "hopeless":
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            self.study.tell(trial, value)
        print(f"trial {trial.number}: {status}{'' if status == 'hopeless' else f', {value:.4g}'}", flush=True)


def bounded(error: float) -> float:
    """Returns an error that can be compared: at most `DIVERGED`, also where it is not a number."""
    return min(error, DIVERGED) if math.isfinite(error) else DIVERGED


@contextlib.contextmanager
def exclusively(folder: Path) -> Iterator[None]:
    """A context in which no other process is in it for the same folder; waits for that."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(folder))
                break
            except InputError:
                time.sleep(0.1)
        yield


def work(search: Search) -> bool:
    """Works on trials until there are enough; returns False if a signal came before."""
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
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    told = [FLAGS[flag].serialize() for flag in OF_WORKER]
    command = [sys.executable, __file__, name, *filter(None, told), f"--out={out}", "--worker"]
    workers: list[subprocess.Popen] = []
    # A signal reaches them, too: they save and leave.
    with contextlib.suppress(KeyboardInterrupt), ended_together(workers):
        for job in range(FLAGS.jobs):
            workers.append(subprocess.Popen(command))
            if share := cores[job :: FLAGS.jobs]:  # Long before TensorFlow counts them.
                os.sched_setaffinity(workers[-1].pid, share)
        for worker in workers:
            worker.wait()
    statuses = [worker.wait() for worker in workers]
    if failed := [status for status in statuses if status not in (0, INTERRUPTED)]:
        sys.exit(f"search: {len(failed)} of {len(workers)} workers failed; the same command goes on")
    return INTERRUPTED not in statuses


def main(argv: list[str]) -> None:
    """Searches the space that the command line names, and writes the table."""
    if len(argv) != 2 or argv[1] not in cells():
        sys.exit(f"search: name a space, NETWORK_ORDER_METHOD; legal values: {', '.join(cells())}")
    if not importlib.util.find_spec("optuna"):
        sys.exit(MISSING)
    if FLAGS["out"].present and not FLAGS.out:
        sys.exit("search: --out= names no folder")
    out = Path(FLAGS.out or Path("runs") / "search" / argv[1]).expanduser().resolve()
    try:
        search = Search(argv[1], out)
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
