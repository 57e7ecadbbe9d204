"""What `--mode` can be, one function per mode."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from flp_tf.analysis import ANALYSES
from flp_tf.analysis.result import check_output
from flp_tf.commandline import CommandLine
from flp_tf.errors import InputError
from flp_tf.export import FORMATS, export, litert
from flp_tf.files import check_no_link, local
from flp_tf.learners import Learner
from flp_tf.meta.evaluation import Evaluator
from flp_tf.meta.trainer import Diverged
from flp_tf.registry import MOST_INT, Choice, check, text
from flp_tf.runs import labels, results
from flp_tf.runs.config import Config, resolve
from flp_tf.runs.directory import RunDirectory, machine
from flp_tf.runs.interruption import Interrupted
from flp_tf.runs.run import changed, find, load, restore, restore_learner
from flp_tf.runs.sections import RunOptions
from flp_tf.runs.training import meta_train

# Of a run's options, those that an analysis has, too.
ANALYSIS_FLAGS = ("seed", "eval_episodes", "jit_compile")
# Flags of the command that are not of all modes.
ONLY = {
    "analysis": ("analyze",),
    "output": ("analyze", "evaluate", "export"),
    "format": ("export",),
    "weights": ("export",),
    "batch": ("export",),
}
# Lifetimes by which a LiteRT file is compared with the library.
COMPARED = 3


def run(line: CommandLine) -> None:
    """Does what a command line says.

    Raises:
        InputError: if a flag is not legal, does not go with the others, or names what is not there.
        SystemExit: if a run was interrupted, or diverged.
    """
    mode = line.command["mode"]
    for flag, legal in {"mode": sorted(MODES), "format": FORMATS, "weights": litert.WEIGHTS}.items():
        if line.command[flag] not in legal:
            raise InputError(f"--{flag}={line.command[flag]} is unknown; legal values: {', '.join(legal)}")
    for flag, modes in ONLY.items():
        if flag in line.asked and mode not in modes:
            legal = ", ".join(f"--mode={other}" for other in modes)
            raise InputError(f"--{flag} does not go with --mode={mode}; it goes with {legal}")
    with saying_why_it_stops():
        MODES[mode](line)


@contextlib.contextmanager
def saying_why_it_stops() -> Iterator[None]:
    """Turns an interruption, a divergence or a lack of memory into one line and a non-zero exit."""
    try:
        yield
    except Interrupted as interrupted:
        print(f"Stopped after {interrupted.episodes} lifetimes and saved; the same command continues.")
        raise SystemExit(128 + interrupted.signal) from None
    except Diverged as diverged:
        raise SystemExit(f"flp_tf: {diverged}") from None
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        what = re.search(r"shape ?\[[\d,]+\]", str(error))
        tensor = f" for a tensor of {what[0]}" if what else ""
        raise SystemExit(
            f"flp_tf: there is not enough memory{tensor}; lower --meta_batch, or the sizes of the network, "
            "the lifetime and the query, and give the command again"
        ) from None


def train(line: CommandLine) -> None:
    """Meta-trains, or goes on with an interrupted run, to the final meta-test."""
    meta_train(resolve(line.given, line.optional), line.command["logdir"])


def evaluate(line: CommandLine) -> None:
    """Repeats the meta-test of a run, on other lifetimes or more of them."""
    directory = find(line.command["logdir"])
    check_own(line, line.command["logdir"], directory.path)
    saved = directory.config()
    config = recall(line, saved, "seed")
    output = RunDirectory(line.command["output"] or directory.path, flag=_folder_flag(line))
    with output.results([labels.EVALUATION], saved, home=directory.path):
        of_run = restore(directory.path, config)
        content = results.meta_test(config, Evaluator(of_run.learner, of_run.task, config.jit_compile))
        output.write(labels.EVALUATION, content | of_run.progress() | {"run": labels.label(saved)})
    if "diverged" in content:
        raise Diverged(content["diverged"])
    print(results.table(config, of_run.task, content))


def export_run(line: CommandLine) -> None:
    """Writes the network of a run in a form that needs no flp_tf."""
    form, batch = line.command["format"], line.command["batch"]
    for flag in ("weights", "batch"):
        if flag in line.asked and form != "litert":
            raise InputError(f"--{flag} does not go with --format={form}; it goes with --format=litert")
    if not 0 <= batch <= MOST_INT:
        raise InputError(f"--batch={batch} is no number of examples; legal values are 0 (any) to {MOST_INT}")
    directory = find(line.command["logdir"])
    check_own(line, line.command["logdir"], directory.path)
    saved = directory.config()
    config = recall(line, saved)
    if form == "litert" and getattr(config, "trunk_precision", "float32") != "float32":
        print("LiteRT has no bfloat16: the trunk computes in float32, with its weights as they are.")
        config = config.replace(trunk_precision="float32")
    default = directory.export if form == "saved_model" else directory.path / form
    if not line.command["output"]:
        check_no_link(default, directory.path, "logdir")
    path = RunDirectory(line.command["output"] or default, flag=_folder_flag(line)).path
    if form == "saved_model":
        # It is replaced as a whole, so files are made beside it.
        folder, names, home = path.parent, [path.name], default.parent if path.name == default.name else None
    else:
        folder, names, home = path, [litert.FILE, labels.REPORT], default
    output = RunDirectory(folder, flag=_folder_flag(line))
    with output.results(names, saved, home):
        learner = restore_learner(directory.path, config)
        if form == "saved_model":
            export(learner, path, labels.label(saved))
            print(f"SavedModel: {path}")
        else:
            _export_litert(learner, config, directory, output, line.command["weights"], batch)


def _export_litert(
    learner: Learner, config: Config, directory: RunDirectory, output: RunDirectory, weights: str, batch: int
) -> None:
    """Writes a LiteRT file and, where it can be measured, a report of what it is worth, `litert.json`."""
    label = labels.label(directory.config())
    file = litert.write(learner, output.path, weights, batch or None, label)
    # That of an earlier file, which is not there any more.
    (output.path / labels.REPORT).unlink(missing_ok=True)
    print(f"LiteRT: {file} ({file.stat().st_size / 1024:.0f} KB)")
    try:
        measured = _measure(learner, config, directory, file)
    except InputError as error:
        print(f"It was not measured: {error}")
    else:
        report = {"weights": weights, "batch": batch, **measured, "machine": machine(), "run": label}
        output.write(labels.REPORT, report)


def _measure(learner: Learner, config: Config, directory: RunDirectory, file: Path) -> dict[str, Any]:
    """Returns what a LiteRT file is worth, and prints it; see `litert.measure`.

    Raises:
        InputError: if the interpreter or the data of the run are missing, or if the file takes other batches.
    """
    if not litert.has_interpreter():
        raise InputError('ai-edge-litert is not installed (pip install "ai-edge-litert>=2.1")')
    task = config.make_task()
    directory.check_data(config, task.fingerprint)
    report = litert.measure(learner, task, file, COMPARED, config.seed)
    print(
        f"  {report['milliseconds_per_step']:.3g} ms per inner step; error on {COMPARED} unseen lifetimes "
        f"{report['before']:.4g} before and {report['after']:.4g} {task.unit} after (flp_tf: {report['library']:.4g})"
    )
    return report


def _folder_flag(line: CommandLine) -> str:
    """Returns the flag that names the folder to write to, for messages."""
    return "output" if line.command["output"] else "logdir"


def recall(line: CommandLine, config: Config, *free: str) -> Config:
    """Returns the configuration of the run in `--logdir`, with the incidental options that are given.

    Args:
        line: the command line.
        config: of the run.
        *free: flags that need not be those of the run, beside the incidental ones.

    Raises:
        InputError: if a flag is not the run's.
    """
    given = {flag: value for flag, value in line.given.items() if hasattr(config, flag) or flag not in line.optional}
    fixed = {flag for flag in given if hasattr(config, flag)} - {*config.flags_with("incidental"), *free}
    differences = [
        f"--{flag}={text(given[flag])} (the run has {text(getattr(config, flag))})"
        for flag in sorted(fixed)
        if given[flag] != getattr(config, flag)
    ]
    if differences:
        raise InputError(f"--logdir={line.command['logdir']} holds another run: {', '.join(differences)}")
    return changed(config, given)


def analyze(line: CommandLine) -> None:
    """Makes a figure of the paper from one run or several, their folders joined by commas."""
    name = line.command["analysis"]
    if not name:
        raise InputError(f"--mode=analyze needs --analysis; legal values: {', '.join(sorted(ANALYSES))}")
    analysis = Choice(ANALYSES[name])
    options = ANALYSES.options(name)
    own = options.__dataclass_fields__.keys()
    given = {flag: value for flag, value in line.given.items() if flag not in line.optional or flag in own}
    if foreign := sorted(given.keys() - {*ANALYSIS_FLAGS, *own}):
        legal = ", ".join(f"--{flag}" for flag in (*ANALYSIS_FLAGS, *own))
        raise InputError(f"--{foreign[0]} does not go with --analysis={name}; legal are {legal}")
    chosen = options(**{flag: value for flag, value in given.items() if flag in own})
    of_run = RunOptions(**{flag: given[flag] for flag in ("seed", "eval_episodes") if flag in given})
    check(chosen)
    check(of_run)
    changes = {"jit_compile": given["jit_compile"]} if "jit_compile" in given else {}
    logdirs = folders(line.command["logdir"])
    paths = [find(logdir).path for logdir in logdirs]
    check_own(line, logdirs[0], paths[0])
    for number, path in enumerate(paths):
        if path.resolve() in [earlier.resolve() for earlier in paths[:number]]:
            raise InputError(f"--logdir names {path} twice, which counts as another seed; name each run once")
    runs = [load(path, **changes) for path in paths]
    default = runs[0].path / "analysis" / name
    if not line.command["output"]:
        check_no_link(default, runs[0].path, "logdir")
    output = RunDirectory(line.command["output"] or default, flag="output")
    check_output(name, output.path, runs)
    result = analysis._replace(options=chosen)(
        runs=runs, output=Path(output.path), lifetimes=of_run.eval_episodes, seed=of_run.seed
    )
    for file in result.files:
        print(file)


def check_own(line: CommandLine, name: str, path: Path) -> None:
    """Checks that results of a network that ships are not to be written beside it.

    Raises:
        InputError: if `--logdir` gives its name, and there is no `--output`.
    """
    if not line.command["output"] and path != local(name, "logdir"):
        raise InputError(f"--logdir={name} is a network that ships; name a folder for the results with --output")


def folders(text: str) -> list[str]:
    """Returns the folders that a text names, joined by commas.

    A comma may also be part of a folder's name: of several readings, the one with the
    longest names of runs, from the left, is taken.

    Args:
        text: the value of `--logdir`.
    """
    parts, found = text.split(","), []
    while parts:
        readings = ((",".join(parts[:count]), count) for count in range(len(parts), 1, -1))
        name, count = next((reading for reading in readings if holds_run(reading[0])), (parts[0], 1))
        found.append(name)
        parts = parts[count:]
    return found


def holds_run(path: str) -> bool:
    """Returns whether a folder has the `config.json` of a run."""
    return bool(path) and RunDirectory(path).config_file.is_file()


MODES: dict[str, Callable[[CommandLine], None]] = {
    "train": train,
    "evaluate": evaluate,
    "analyze": analyze,
    "export": export_run,
}
