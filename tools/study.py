"""A search of the outer loop's flags: its study and its trials."""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import spaces
from search_report import FILES
from trials import REPORTS, as_in_the_flagfile, cells, chosen, flags_of, suggest

from flp_tf.errors import InputError
from flp_tf.registry import text
from flp_tf.runs.locks import locked

# No trial is ended early before this share of its cost, nor before this number of trials.
WARMUP, FIRST_TRIALS = 0.3, 6
# Value of a trial that diverged, and upper bound of all other values.
DIVERGED = 1e3


class Settings(NamedTuple):
    """Settings of a search.

    Attributes:
        trials: of the whole search, on all machines.
        cost: inner steps of a trial; 0 for that of the network in `spaces.py`.
        lifetimes: validation lifetimes for the final value of a trial.
        only: the parts of the space to search; empty for all of it.
        flags: further flags of every trial.
    """

    trials: int
    cost: int
    lifetimes: int
    only: Sequence[str]
    flags: Sequence[str]


class Search:
    """A search of a space, with the folder of its study.

    Args:
        name: of the space.
        out: folder of the study.
        settings: number and kind of trials.

    Raises:
        InputError: if flags are not legal, or the folder holds another search.
    """

    def __init__(self, name: str, out: Path, settings: Settings):
        import optuna

        from flp_tf.commandline import read
        from flp_tf.runs.config import resolve

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.network, self.cell = cells()[name]
        self.out, self.name, self.settings = out, name, settings
        line = read([*self.cell.flags(self.network), *settings.flags])
        self.given, self.optional = line.given, line.optional
        self.base = resolve(self.given, self.optional)
        self.cost = settings.cost or spaces.COST.get(self.network, spaces.OTHER_COST)
        self.full = self.base.make_task().steps
        self.ranges = chosen(spaces.ranges(self.network, self.cell.name), settings.only, read(settings.flags).given)
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
        """Returns the study of a journal, or a new one if there is no such file."""
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
        asked = self.settings
        settings = {"cost": self.cost, "lifetimes": asked.lifetimes, "flags": asked.flags, "ranges": self.ranges}
        settings |= {f"--{flag}": value for flag, value in self.base.to_dict().items() if flag in learned}
        now, before = json.loads(json.dumps(settings)), self.study.user_attrs.get("settings")
        if before is None:
            self.study.set_user_attr("settings", now)
        elif different := [name for name in now if now[name] != before.get(name)]:
            name = different[0]
            raise InputError(f"--out={self.out} holds a search with other {name}, {before.get(name)}; name another one")

    @contextlib.contextmanager
    def next_trial(self) -> Iterator[Any]:
        """A context with a trial for this process alone; None if there are enough.

        It is a trial that another process left unfinished, or else a new one.
        """
        import optuna

        with contextlib.ExitStack() as claim:
            with exclusively(self.out):
                trial = self._abandoned(claim)
                done = self.study.get_trials(deepcopy=False)
                asked = [one for one in done if one.state != optuna.trial.TrialState.WAITING]
                if trial is None and len(asked) < self.settings.trials:
                    trial = self._drawn(self.study.ask(), len(asked))
                    claim.enter_context(locked(self.folder(trial.number)))
            yield trial

    def _abandoned(self, claim: contextlib.ExitStack) -> Any:
        """Claims and returns an unfinished trial that no process works on; None if there is none."""
        import optuna

        for trial in self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            with contextlib.suppress(InputError):
                claim.enter_context(locked(self.folder(trial.number)))
                # Its process may have ended before all of its values were drawn.
                return self._drawn(optuna.trial.Trial(self.study, trial._trial_id), trial.number)
        return None

    def _drawn(self, trial: Any, number: int) -> Any:
        """Returns a trial with all of its values, which depend only on the trials before it."""
        import optuna

        self.study.sampler = optuna.samplers.TPESampler(seed=number, constant_liar=True)
        suggest(trial, self.ranges)
        return trial

    def flags(self) -> list[str]:
        """Returns the flags of all trials, from the flagfile and `--flags`, if the method has them."""
        return [f"--{flag}={text(getattr(self.base, flag))}" for flag in self.given if hasattr(self.base, flag)]

    def folder(self, number: int) -> Path:
        """Returns the folder of a trial, and makes it."""
        folder = self.out / "trials" / f"{number:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def run(self, trial: Any) -> None:
        """Meta-trains a trial to its end, or until it is hopeless, and reports it to the study.

        Raises:
            Interrupted: after a signal; the trial can continue.
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
            errors = evaluator(config.seed, self.settings.lifetimes, "validation")
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
    """Returns an error that can be compared: at most `DIVERGED`, even if the error is NaN."""
    return min(error, DIVERGED) if math.isfinite(error) else DIVERGED


@contextlib.contextmanager
def exclusively(folder: Path) -> Iterator[None]:
    """A context that only one process at a time can enter for a folder; others wait."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(folder))
                break
            except InputError:
                time.sleep(0.1)
        yield
