"""Times one meta-step of this engine against the plain loop, side by side.

Every row is measured in a fresh process, so that its peak memory is its own. The engines of
one setting run one after the other, so that ratios compare measurements of
the same machine in the same minutes. `--rounds` measures each setting several times
in turn. `--baseline=DIR` adds the engine of another checkout of flp_tf:

    python tools/benchmark.py --quick
    python tools/benchmark.py --json=rows.json --report=docs/performance.md
    python tools/benchmark.py --match='omniglot|mini' --omniglot_archives=DIR --mini_imagenet_dir=DIR
    git worktree add /tmp/before 7550ab6
    python tools/benchmark.py --match='^sine . 400 1$' --baseline=/tmp/before --rounds=3

`--until_error` measures the time to reach a validation error instead; see `until_error.py`.
"""

import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import until_error  # noqa: E402

FLAGS = flags.FLAGS
flags.DEFINE_bool("quick", False, "Only the paper's sine network at N=3, T=400: under three minutes.")
flags.DEFINE_string("json", "", "Write the rows to this file.")
flags.DEFINE_string("report", "", "Write a Markdown report here, and a plot beside it.")
flags.DEFINE_string("match", "", "Only rows whose `task N T meta-batch` matches this pattern, such as 'sine 3 .* 1$'.")
flags.DEFINE_list("engines", [], "Only these engines; all by default.")
flags.DEFINE_string("baseline", "", "Also measure the engine of the checkout of flp_tf in this folder.")
flags.DEFINE_integer("repeats", 5, "Meta-steps timed in each process, after the first.", lower_bound=1)
flags.DEFINE_integer("rounds", 1, "Processes for each row; the engines of a setting take turns.", lower_bound=1)
flags.DEFINE_float("max_gb", 16.0, "Leave out plain loops that would need more memory than this.")
flags.DEFINE_string("omniglot_archives", "", "Also measure the Omniglot networks, on the archives in this folder.")
flags.DEFINE_string("mini_imagenet_dir", "", "Also measure the compact mini-ImageNet network, on this folder's images.")

ENGINES = ("plain", "plain_xla", "lifetime")
BASELINE = "baseline"
PRECISION_RUN = "sine_continual_flp2"
# Networks of images: their meta-batch, and the flag that names the folder of the images.
OF_IMAGES = {
    "omniglot_compact": (2, "omniglot_archives"),
    "omniglot_paper": (1, "omniglot_archives"),
    "mini_imagenet_compact": (2, "mini_imagenet_dir"),
}
KEYS = ("task", "engine", "num_plastic_layers", "lifetime", "meta_batch")


def engines() -> list[str]:
    """Returns the engines to measure."""
    every = [*ENGINES, BASELINE] if FLAGS.baseline else list(ENGINES)
    return [engine for engine in every if not FLAGS.engines or engine in FLAGS.engines]


def settings() -> list[dict]:
    """Returns the settings of all rows that match; those of one network and lifetime follow each other."""
    cells = [(3, 400, 1)]
    if not FLAGS.quick:
        cells += [(n, t, 1) for t in (400, 40, 1600) for n in (2, 9, 3, 1)]
        cells += [(3, t, m) for t in (40, 400) for m in (4, 16)] + [(3, 100, 1), (3, 6400, 1)]
    rows = [dict(zip(KEYS, ("sine", engine, *cell))) for cell in dict.fromkeys(cells) for engine in engines()]
    rows = [row for row in rows if not row["engine"].startswith("plain") or _plain_gigabytes(row) < FLAGS.max_gb]
    rows += [dict(zip(KEYS, (name, engine, 2, 25, m))) for name, (m, _) in OF_IMAGES.items() for engine in engines()]
    return [row for row in rows if re.search(FLAGS.match, " ".join(map(str, _cell(row))))]


def missing_flag(row: dict) -> str:
    """Returns the flag that a row needs, but is not given; empty if there is none."""
    _, flag = OF_IMAGES.get(row["task"], (1, ""))
    return flag if flag and not FLAGS[flag].value else ""


def _folders() -> dict[str, str]:
    return {"archives": FLAGS.omniglot_archives, "images": FLAGS.mini_imagenet_dir}


def _plain_gigabytes(row: dict) -> float:
    """Estimates the memory of the plain loop: about six copies of the plastic weights per step."""
    plastic = sum(a * b for a, b in layer_sizes(row["num_plastic_layers"]))
    return 1 + 24e-9 * plastic * row["lifetime"] * row["meta_batch"]


def layer_sizes(layers: int) -> list[tuple[int, int]]:
    """Returns `(in, out)` of the last layers of the paper's sine network, which has nine."""
    units = [11, 300, 300, 300, 300, 300, 900, 300, 300, 1]
    return list(itertools.pairwise(units))[-layers:]


def flops(row: dict, batch: int = 32) -> float:
    """Returns the least arithmetic of a meta-step, in floating-point operations.

    A trunk layer has one matrix product forward and two backward, a plastic layer two
    and four (activity and update); each is `2 * batch * in * out`. Recomputation, which
    saves memory, does not count.
    """
    all_layers = sum(a * b for a, b in layer_sizes(9))
    plastic = sum(a * b for a, b in layer_sizes(row["num_plastic_layers"]))
    return 2.0 * batch * row["lifetime"] * row["meta_batch"] * (3 * (all_layers - plastic) + 6 * plastic)


def in_fresh_process(row: dict) -> dict | None:
    """Returns the measurements of `tools/measure.py` for a row; if it fails, prints the reason and returns None."""
    options = {"repeats": FLAGS.repeats} | _folders()
    checkout = FLAGS.baseline if row["engine"] == BASELINE else ROOT
    command = [sys.executable, str(ROOT / "tools" / "measure.py"), json.dumps(row | options)]
    environment = os.environ | {"PYTHONPATH": str(Path(checkout).resolve())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(f"{row} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def summary(row: dict, rounds: list[dict]) -> dict:
    """Returns a row with the statistics of all its rounds.

    Args:
        row: of `settings`.
        rounds: of `in_fresh_process`, at least one.
    """
    seconds = [value for found in rounds for value in found["seconds"]]
    data = statistics.median(value for found in rounds for value in found["data_seconds"])
    median = statistics.median(seconds)
    return row | {
        "seconds_median": median,
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "prepare_seconds": statistics.median(found["prepare_seconds"] for found in rounds),
        "compile_seconds": statistics.median(found["compile_seconds"] for found in rounds),
        "peak_mb": statistics.median(found["peak_mb"] for found in rounds),
        "gflop_per_second": flops(row) / median / 1e9 if row["task"] == "sine" else None,
        # As in meta-training, where an episode is drawn before each meta-step.
        "examples_per_second": rounds[0]["examples"] / (median + data),
        "data_share": data / (median + data),
    }


def precision_effect() -> list[str]:
    """Returns a table of the effect of a bfloat16 trunk on the meta-gradients, by group of weights."""
    import numpy as np
    import tensorflow as tf

    from flp_tf import pretrained
    from flp_tf.meta.devices import compiled_estimate

    found = {}
    for precision in ("float32", "bfloat16"):
        run = pretrained.load(PRECISION_RUN, trunk_precision=precision)
        estimate = compiled_estimate(run.config.choice("estimator")(), run.learner, run.task)
        gradients = estimate(run.task.sample(0, 0, 10, "train"), tf.constant([0, 0])).gradients
        found[precision] = {
            group: np.concatenate([gradient.numpy().ravel() for gradient in of_group.values()])
            for group, of_group in gradients.items()
        }
    lines = ["| group | cosine | relative difference |", "| --- | --- | --- |"]
    for group, exact in found["float32"].items():
        rough = found["bfloat16"][group]
        cosine = exact @ rough / (np.linalg.norm(exact) * np.linalg.norm(rough))
        lines.append(f"| {group} | {cosine:.5f} | {np.linalg.norm(rough - exact) / np.linalg.norm(exact):.2g} |")
    return lines


def matmul_rate() -> float:
    """Returns the rate of a large float32 matrix product on this machine, in GFLOP/s."""
    import tensorflow as tf

    a, b = tf.random.normal([12800, 300]), tf.random.normal([300, 900])
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        tf.matmul(a, b).numpy()
        seconds.append(time.perf_counter() - began)
    return 2 * 12800 * 300 * 900 / min(seconds) / 1e9


def table(rows: list[dict], rate: float) -> str:
    """Returns all rows as a Markdown table, with ratios to the plain loop and to the baseline."""
    columns = ["task", "N", "T", "meta-batch", "engine", "s per meta-step (min, max)", "faster than plain"]
    columns += ["GFLOP/s", "examples or images/s", "data", "prepare s", "compile s", "peak MB"]
    columns += ["time and memory of the baseline"] * bool(FLAGS.baseline)
    lines = [f"Large float32 matrix product on this machine: {rate:.0f} GFLOP/s.", ""]
    lines += [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    of_engine = {(row["engine"], *_cell(row)): row for row in rows}
    for row in rows:
        plain, before = (of_engine.get((engine, *_cell(row))) for engine in ("plain", BASELINE))
        faster = f"{plain['seconds_median'] / row['seconds_median']:.2f}x" if plain else "-"
        rate_text = f"{row['gflop_per_second']:.0f}" if row["gflop_per_second"] else "-"
        cells = [row["task"], row["num_plastic_layers"], row["lifetime"], row["meta_batch"], row["engine"]]
        cells += [f"{row['seconds_median']:.3f} ({row['seconds_min']:.3f}, {row['seconds_max']:.3f})", faster]
        cells += [rate_text, f"{row['examples_per_second']:.0f}", f"{row['data_share']:.1%}"]
        cells += [f"{row['prepare_seconds']:.1f}", f"{row['compile_seconds']:.1f}", f"{row['peak_mb']:.0f}"]
        if FLAGS.baseline:
            ratios = [row[key] / before[key] for key in ("seconds_median", "peak_mb")] if before else []
            cells.append(" ".join(f"{ratio:.2f}x" for ratio in ratios) or "-")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _cell(row: dict) -> tuple:
    return tuple(row[key] for key in KEYS if key != "engine")


def plot(rows: list[dict], path: Path) -> None:
    """Draws time and peak memory against T at N=3, one line per engine."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for engine, marker in zip((*ENGINES, BASELINE), "sDo^"):
        mine = [r for r in rows if (r["task"], r["engine"]) == ("sine", engine)]
        mine = [r for r in mine if (r["num_plastic_layers"], r["meta_batch"]) == (3, 1)]
        mine.sort(key=lambda row: row["lifetime"])
        for axis, key in zip(axes, ("seconds_median", "peak_mb")):
            if mine:
                axis.plot([r["lifetime"] for r in mine], [r[key] for r in mine], marker=marker, label=engine)
    for axis, label in zip(axes, ("seconds per meta-step", "peak memory of the process [MB]")):
        axis.set(xscale="log", yscale="log", xlabel="inner steps T", ylabel=label)
        axis.legend()
    figure.savefig(path, dpi=120)


def report(rows: list[dict], rate: float, path: Path) -> None:
    """Writes the table with the command and the date, and the plot."""
    picture = path.with_suffix(".png")
    plot(rows, picture)
    command = "python tools/benchmark.py " + " ".join(argument for argument in sys.argv[1:])
    cores = len(os.sched_getaffinity(0))
    path.write_text(
        f"# Performance\n\nMeasured with `{command}` on {time.strftime('%Y-%m-%d')}, {cores} CPU cores, seed 0: the "
        "paper's sine network, batches of 32. `plain` is `tf.while_loop` and `tf.GradientTape` with the trunk outside "
        "the loop, `plain_xla` the same compiled, `lifetime` this library's engine. Times on shared machines are "
        "noise; compare within a setting. GFLOP/s counts the arithmetic without recomputation, "
        "data is the share of time that drawing the episode takes, and part of the time in which examples (images) "
        "are counted; prepare is the time to make the task, which reads its images from the cache, and the network.\n\n"
        f"{table(rows, rate)}\n\n## A bfloat16 trunk\n\nMeta-gradients of `--trunk_precision=bfloat16` against "
        f"float32, the same ten lifetimes of {PRECISION_RUN}:\n\n{os.linesep.join(precision_effect())}\n\n"
        f"## Against the length of a lifetime\n\n![Time and memory against T]({picture.name})\n"
    )


def main(argv: list[str]) -> None:
    """Measures all rows, prints the table and writes what the flags ask for."""
    del argv
    if unknown := set(FLAGS.engines) - {*ENGINES, BASELINE}:
        sys.exit(f"--engines={','.join(sorted(unknown))} is unknown; legal values: {', '.join((*ENGINES, BASELINE))}")
    if FLAGS.baseline and not (Path(FLAGS.baseline) / "flp_tf").is_dir():
        sys.exit(f"--baseline={FLAGS.baseline} holds no folder flp_tf; legal is a checkout of this repository")
    try:
        matching = settings()
    except re.error as error:
        sys.exit(f"--match={FLAGS.match} is no regular expression: {error}")
    wanted = [row for row in matching if not missing_flag(row)]
    if matching and not wanted:
        needed = " or ".join(dict.fromkeys(f"--{missing_flag(row)}" for row in matching))
        sys.exit(f"--match={FLAGS.match} matches only rows that need {needed}, a folder of images")
    if not wanted:
        sys.exit(f"--match={FLAGS.match} matches no row; rows are called `task N T meta-batch`, such as `sine 3 400 1`")
    for flag in ("json", "report"):
        if not Path(FLAGS[flag].value).parent.is_dir():
            sys.exit(f"--{flag}={FLAGS[flag].value} lies in no folder; make it, or name another file")
    # Imported here, because they need TensorFlow.
    import measure
    from tqdm import tqdm

    from flp_tf.errors import InputError

    try:
        for row in {row["task"]: row for row in wanted if row["task"] in OF_IMAGES}.values():
            measure.check_images(row | _folders())
    except InputError as error:
        sys.exit(str(error))
    rate, rows, failed = matmul_rate(), [], 0
    with tqdm(total=len(wanted) * FLAGS.rounds, unit="process") as bar:
        for _, of_cell in itertools.groupby(wanted, _cell):
            of_cell = list(of_cell)
            found = [[] for _ in of_cell]
            for _ in range(FLAGS.rounds):
                for i, row in enumerate(of_cell):
                    found[i].append(in_fresh_process(row))
                    bar.update()
            for row, rounds in zip(of_cell, found):
                if sound := [measured for measured in rounds if measured]:
                    rows.append(summary(row, sound))
                failed += len(rounds) - len(sound)
            if FLAGS.json and rows:
                Path(FLAGS.json).write_text(json.dumps(rows, indent=1) + "\n")
    if rows:
        print(table(rows, rate))
    if FLAGS.report and rows:
        report(rows, rate, Path(FLAGS.report))
    if failed:
        sys.exit(f"{failed} of {len(wanted) * FLAGS.rounds} processes failed; each reason is above")


if __name__ == "__main__":
    if any(argument.startswith("--until_error") for argument in sys.argv[1:]):
        until_error.main(sys.argv[1:])
    else:
        app.run(main)
