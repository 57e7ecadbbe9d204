"""Kills runs at random moments, damages checkpoints and gives bad input; counts the cases that survive.

    tools/stress --minutes=60
    tools/stress --minutes=5 --only=inputs --seed=7

It ends with a table. The exit status is non-zero if anything did not survive; each such case
is printed with all that is needed to repeat it. `docs/reliability.md` lists the guarantees.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import bad_inputs  # noqa: E402
import forked  # noqa: E402
import numpy as np  # noqa: E402
from absl import app, flags  # noqa: E402

from flp_tf.runs.checkpoints import Checkpoints  # noqa: E402

FLAGS = flags.FLAGS
flags.DEFINE_float("minutes", 10.0, "How long to go on; every part is tried once at least.", lower_bound=0)
flags.DEFINE_integer("seed", 0, "Of all that is random.")
flags.DEFINE_list("only", [], "Some of kills, flips and inputs; all by default.")

# A run of a few seconds in which all weights change and checkpoints are written all the time.
RUN = [
    "--task=sine",
    "--continual",
    "--num_sines=2",
    "--network=8-8",
    "--lifetime=8",
    "--batch_size=4",
    "--query_size=4",
    "--episodes=24",
    "--curriculum=4:8",
    "--meta_batch=2",
    *(f"--{group}_rate=0.01" for group in ("slow", "feedback", "plasticity", "strength")),
    "--plasticity_scale=0.001",
    "--plasticity_init=1",
    "--output_plasticity_init=1",
    "--log_every=2",
    "--eval_every=8",
    "--eval_episodes=2",
    "--checkpoint_minutes=0",
    "--nojit_compile",
]
# Most seconds of a refusal, and of a run.
REFUSAL, LIMIT = 10, 300
# Signals to processes. After all but SIGKILL, a process saves and ends.
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
# So many checkpoints are damaged in one case, because each takes milliseconds.
FLIPS = 50


class Stress:
    """The tests, and their outcomes.

    Args:
        folder: to work in.
        seed: of all that is random.

    Attributes:
        counts: how often each outcome occurred, by kind and outcome.
        failures: a text for each case that did not survive.
    """

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        self.counts: dict[str, Counter] = {}
        self.failures: list[str] = []
        self._number = 0

    def note(self, kind: str, outcome: str, failure: str = "") -> None:
        """Counts an outcome, and prints a failure."""
        self.counts.setdefault(kind, Counter())[outcome] += 1
        if failure:
            self.failures.append(failure)
            print(f"FAILED: {kind}: {failure}", flush=True)

    def new_folder(self) -> Path:
        """Returns an empty folder."""
        self._number += 1
        folder = self.folder / str(self._number)
        folder.mkdir()
        return folder

    def reference(self) -> Path:
        """Returns the undisturbed run that all others are compared with."""
        path = self.folder / "reference"
        if not path.exists():
            outcome = forked.run([*RUN, f"--logdir={path}"], self.folder, limit=LIMIT)
            if outcome.code:
                raise SystemExit(f"The undisturbed run fails: {outcome.err}")
            self.seconds = outcome.seconds
        return path

    def kill(self) -> None:
        """Interrupts a run one to three times by signals, then lets it finish."""
        expected, folder = self.reference(), self.new_folder()
        path, story = folder / "run", []
        arguments = [*RUN, f"--logdir={path}"]
        for _ in range(self.random.randint(1, 3)):
            child, number = forked.Child(arguments, folder), self.random.choice(SIGNALS)
            if self.random.random() < 0.5:
                delay = self.random.uniform(0, self.seconds)
                story.append(f"{number.name} after {delay:.2f} s")
                time.sleep(delay)
            else:
                story.append(f"{number.name} during a write")
                self._await_write(path)
            child.kill(number)
            outcome = child.wait(LIMIT)
            legal = (0, -number, 128 + number)
            if outcome.code not in legal or "Traceback" in outcome.err:
                self.note("kills", "wrong exit", f"{', '.join(story)}: {outcome.code}: {outcome.err[-2000:]}")
        outcome = forked.run(arguments, folder, limit=LIMIT)
        different = list(_differences(path, expected)) if not outcome.code else [outcome.err[-2000:]]
        text = f"{', '.join(story)}: {'; '.join(different)}" if different else ""
        self.note("kills", "lost" if different else "ended as the undisturbed run, bit by bit", text)
        shutil.rmtree(folder)

    def _await_write(self, path: Path) -> None:
        """Waits until a file is partly written, after a random number of checkpoints."""
        after, end = self.random.randint(0, 12), time.monotonic() + self.seconds
        while time.monotonic() < end:
            checkpoints = path / "checkpoints"
            steps = Checkpoints(checkpoints, {}).steps
            half = any(path.rglob(".*.partial"))
            if half and (steps[:1] or [0])[0] >= after:
                return

    def flip(self) -> None:
        """Damages checkpoints, and then reads them."""
        folder = self.new_folder() / "checkpoints"
        shutil.copytree(self.reference() / "checkpoints", folder)
        checkpoints = Checkpoints(folder, {})
        newest, older = checkpoints.steps[:2]
        good = {}
        for step in (older, newest):
            with np.load(folder / f"ckpt-{step}.npz") as content:
                good[step] = dict(content)
        file = folder / f"ckpt-{newest}.npz"
        whole = file.read_bytes()
        for _ in range(FLIPS):
            kind, damaged = self._damage(whole)
            file.write_bytes(damaged)
            found = checkpoints.newest()
            same = found is not None and _same(found.content, good[found.step])
            outcome = ("noticed" if found.step == older else "without effect") if same else "silent"
            self.note(f"flips: {kind}", outcome, "" if same else f"seed {FLAGS.seed}, file {file}")
        file.write_bytes(whole)
        shutil.rmtree(folder.parent)

    def _damage(self, content: bytes) -> tuple[str, bytes]:
        """Returns a kind of damage, and the damaged content."""
        changed, kind = bytearray(content), self.random.choice(("bit", "bit", "block of zeros", "cut off", "twice"))
        position = self.random.randrange(len(content))
        if kind == "bit":
            changed[position] ^= 1 << self.random.randrange(8)
        elif kind == "block of zeros":
            changed[position : position + 4096] = bytes(len(changed[position : position + 4096]))
        elif kind == "cut off":
            del changed[position:]
        else:
            changed[position:position] = changed[position : position + self.random.randint(1, 4096)]
        return kind, bytes(changed)

    def give(self) -> None:
        """Gives one command bad input."""
        folder = self.new_folder()
        case = bad_inputs.draw(self.random, folder, self.reference())
        before = _contents(folder)
        outcome = forked.run(case.arguments, folder, case.environment, limit=LIMIT)
        wrong = list(_unclear(outcome, _contents(folder) != before))
        text = f"{case.arguments} {case.environment}: {', '.join(wrong)}: {outcome.err[-2000:]}" if wrong else ""
        self.note(f"inputs: {case.kind}", "; ".join(wrong) or "refused in one clear line", text)
        shutil.rmtree(folder)


def _unclear(outcome: forked.Outcome, changed: bool) -> Iterator[str]:
    """Yields each fault of a refusal."""
    lines = outcome.err.strip().splitlines()
    if outcome.code != 1:
        yield "accepted" if not outcome.code else f"exit {outcome.code}"
    if "Traceback" in outcome.err:
        yield "traceback"
    elif len(lines) != 1 or not lines[0].startswith("flp_tf: "):
        yield f"{len(lines)} lines"
    if changed:
        yield "wrote something"
    if outcome.seconds > REFUSAL:
        yield "slow"


def _contents(folder: Path) -> dict[str, bytes | None]:
    """Returns everything in a folder, except caches of decoded images."""
    paths = [path for path in folder.rglob("*") if path.relative_to(folder).parts[0] != bad_inputs.CACHE]
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def _same(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> bool:
    names = mine.keys() == theirs.keys()
    return names and all(mine[name].tobytes() == theirs[name].tobytes() for name in mine)


def _differences(path: Path, expected: Path) -> Iterator[str]:
    """Yields how a run differs from the undisturbed one, except in times."""
    names, wanted = ({child.name.split(".tfevents")[0] for child in of.iterdir()} for of in (path, expected))
    if names != wanted:
        yield f"it has {sorted(names)}"
    files, wanted = ({child.name for child in (of / "checkpoints").iterdir()} for of in (path, expected))
    if files != wanted:
        yield f"its checkpoints are {sorted(files)}"
    found = [Checkpoints(of / "checkpoints", {}).newest().content for of in (path, expected)]
    for content in found:
        content.pop("outer/seconds")
    if not _same(*found):
        yield "its last checkpoint differs"
    results = [json.loads((of / "result.json").read_text()) | {"minutes": 0} for of in (path, expected)]
    if results[0] != results[1]:
        yield "its result.json differs"


def table(counts: dict[str, Counter]) -> str:
    """Returns the outcomes as a table in Markdown."""
    rows = ["| what | tried | outcome |", "| --- | --- | --- |"]
    for kind in sorted(counts):
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts[kind].most_common())
        rows.append(f"| {kind} | {counts[kind].total()} | {outcomes} |")
    return "\n".join(rows)


def main(arguments: list[str]) -> None:
    """Runs the tests in turn until the time is over."""
    if arguments[1:]:
        raise app.UsageError(f"{arguments[1]} is not a flag")
    end = time.monotonic() + 60 * FLAGS.minutes
    with tempfile.TemporaryDirectory(prefix="stress") as folder:
        stress = Stress(Path(folder), FLAGS.seed)
        parts: dict[str, Callable[[], None]] = {"kills": stress.kill, "flips": stress.flip, "inputs": stress.give}
        if unknown := set(FLAGS.only) - set(parts):
            raise app.UsageError(f"--only={','.join(unknown)} is unknown; legal are {', '.join(parts)}")
        chosen = [part for name, part in parts.items() if not FLAGS.only or name in FLAGS.only]
        # The same time for each.
        spent = dict.fromkeys(chosen, 0.0)
        stress.reference()
        # At least once each, however slow the machine is.
        while time.monotonic() < end or not all(spent.values()):
            part = min(spent, key=spent.get)
            began = time.monotonic()
            part()
            spent[part] += time.monotonic() - began
    print(table(stress.counts))
    if stress.failures:
        raise SystemExit(f"{len(stress.failures)} did not survive")


if __name__ == "__main__":
    app.run(main)
