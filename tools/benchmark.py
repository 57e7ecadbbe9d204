"""Times one meta-step of this engine against the plain loop, side by side.

Every row is measured in a fresh process, so that peak memory is its own, and the
engines of one setting run one after the other, so that ratios share the machine's mood.

    python tools/benchmark.py --quick
    python tools/benchmark.py --json=rows.json --report=docs/performance.md
"""

import functools
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import app, flags  # noqa: E402

FLAGS = flags.FLAGS
flags.DEFINE_bool("quick", False, "Only the paper's sine network at N=3, T=400: under three minutes.")
flags.DEFINE_string("json", "", "Write the rows to this file.")
flags.DEFINE_string("report", "", "Write a Markdown report here, and a plot beside it.")
flags.DEFINE_string("match", "", "Only rows whose `task N T meta-batch` matches this pattern, such as 'sine 3 .* 1$'.")
flags.DEFINE_integer("repeats", 5, "Meta-steps timed for each row, after the first.", lower_bound=1)
flags.DEFINE_float("max_gb", 16.0, "Leave out plain loops that would need more memory than this.")
flags.DEFINE_string("omniglot_archives", "", "Also measure the Omniglot networks, on the archives in this folder.")
flags.DEFINE_string("setting", "", "Internal: measure this one row and print it as JSON.")

ENGINES = ("plain", "plain_xla", "lifetime")
PRECISION_RUN = "sine_continual_flp2"
KEYS = ("task", "engine", "num_plastic_layers", "lifetime", "meta_batch")


def settings() -> list[dict]:
    """Returns the settings of all rows."""
    cells = [(3, 400, 1)]
    if not FLAGS.quick:
        cells += [(n, t, 1) for t in (400, 40, 1600) for n in (2, 9, 3, 1)]
        cells += [(3, t, m) for t in (40, 400) for m in (4, 16)] + [(3, 100, 1), (3, 6400, 1)]
    rows = [dict(zip(KEYS, ("sine", engine, *cell))) for cell in dict.fromkeys(cells) for engine in ENGINES]
    rows = [row for row in rows if row["engine"] == "lifetime" or _plain_gigabytes(row) < FLAGS.max_gb]
    if FLAGS.omniglot_archives:
        images = [("omniglot_compact", 2), ("omniglot_paper", 1)]
        rows += [dict(zip(KEYS, (name, engine, 2, 25, m))) for name, m in images for engine in ENGINES]
    return [row for row in rows if re.search(FLAGS.match, " ".join(map(str, _cell(row))))]


def _plain_gigabytes(row: dict) -> float:
    """Estimates what the plain loop keeps: some six copies of the plastic weights a step."""
    plastic = sum(a * b for a, b in layer_sizes(row["num_plastic_layers"]))
    return 1 + 24e-9 * plastic * row["lifetime"] * row["meta_batch"]


def layer_sizes(layers: int) -> list[tuple[int, int]]:
    """Returns `(in, out)` of the last layers of the paper's sine network, which has nine."""
    units = [11, 300, 300, 300, 300, 300, 900, 300, 300, 1]
    return list(zip(units, units[1:]))[-layers:]


def flops(row: dict, batch: int = 32) -> float:
    """Returns the arithmetic that a meta-step cannot do without, in floating-point operations.

    A trunk layer has one matrix product forward and two backward, a plastic layer two
    and four (activity and update); each is `2 * batch * in * out`. Recomputation, which
    buys memory, does not count.
    """
    all_layers = sum(a * b for a, b in layer_sizes(9))
    plastic = sum(a * b for a, b in layer_sizes(row["num_plastic_layers"]))
    return 2.0 * batch * row["lifetime"] * row["meta_batch"] * (3 * (all_layers - plastic) + 6 * plastic)


def configuration(row: dict, **changes):
    """Returns the resolved `Config` of a row."""
    from flp_tf.config import Config

    if row["task"] == "sine":
        changes |= {"task": "sine", "lifetime": row["lifetime"]}
    else:
        size = 28 if row["task"] == "omniglot_compact" else 84
        changes |= {"task": "omniglot", "network": row["task"], "image_size": size}
        changes |= {"rotations": True, "omniglot_archives": FLAGS.omniglot_archives}
    return Config(continual=True, num_plastic_layers=row["num_plastic_layers"], **changes).resolve()


def peak_megabytes() -> float:
    """Returns the most memory this process held at once.

    Read from `/proc` (Linux), as `getrusage` also counts what the parent held when it forked.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024


def measure(row: dict) -> dict:
    """Measures one row in this process."""
    import tensorflow as tf

    from flp_tf import learners, lifetime
    from flp_tf.meta.objective import compiled_meta_gradient, meta_gradient
    from flp_tf.tasks import TASKS

    config = configuration(row)
    task = TASKS[config.task].from_config(config)
    learner = learners.build(config, task)
    sample = tf.function(lambda index: task.sample(0, index, row["meta_batch"], "train"), autograph=False)

    if row["engine"] == "lifetime":
        step = compiled_meta_gradient(learner, task)
    else:
        plain = functools.partial(meta_gradient, learner, task, segment_length=lifetime.PLAIN)
        step = tf.function(plain, autograph=False, jit_compile=row["engine"] == "plain_xla")

    def timed(index: int) -> tuple[float, float]:
        began = time.perf_counter()
        episode = sample(tf.constant(index))
        episode.query_y.numpy()
        drawn = time.perf_counter()
        step(episode).loss.numpy()
        return time.perf_counter() - drawn, drawn - began

    first, _ = timed(0)
    seconds, data = (sorted(column) for column in zip(*[timed(1 + i) for i in range(FLAGS.repeats)]))
    median = seconds[len(seconds) // 2]
    images = row["meta_batch"] * (task.steps * task.batch_size + task.query_size)
    return row | {
        "seconds_median": median,
        "seconds_min": seconds[0],
        "seconds_max": seconds[-1],
        "compile_seconds": first - seconds[0],
        "peak_mb": peak_megabytes(),
        "gflop_per_second": flops(row) / median / 1e9 if row["task"] == "sine" else None,
        "examples_per_second": images / median,
        "data_share": data[len(data) // 2] / (median + data[len(data) // 2]),
    }


def precision_effect() -> list[str]:
    """Returns a table of what a bfloat16 trunk does to the meta-gradients, by group of weights."""
    import numpy as np
    import tensorflow as tf

    from flp_tf import pretrained
    from flp_tf.meta.objective import meta_gradient

    found = {}
    for precision in ("float32", "bfloat16"):
        _, task, learner = pretrained.load(PRECISION_RUN, trunk_precision=precision)
        step = tf.function(functools.partial(meta_gradient, learner, task), jit_compile=True, autograph=False)
        gradients = iter(step(task.sample(0, tf.constant(0), 10, "train")).gradients)
        groups = learner.parameter_groups()
        found[precision] = {
            name: np.concatenate([next(gradients).numpy().ravel() for _ in weights]) for name, weights in groups.items()
        }
    lines = ["| group | cosine | relative difference |", "| --- | --- | --- |"]
    for name, exact in found["float32"].items():
        rough = found["bfloat16"][name]
        cosine = exact @ rough / (np.linalg.norm(exact) * np.linalg.norm(rough))
        lines.append(f"| {name} | {cosine:.5f} | {np.linalg.norm(rough - exact) / np.linalg.norm(exact):.2g} |")
    return lines


def matmul_rate() -> float:
    """Returns the rate of a large float32 matrix product here, in GFLOP/s."""
    import tensorflow as tf

    a, b = tf.random.normal([12800, 300]), tf.random.normal([300, 900])
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        tf.matmul(a, b).numpy()
        seconds.append(time.perf_counter() - began)
    return 2 * 12800 * 300 * 900 / min(seconds) / 1e9


def in_fresh_process(row: dict) -> dict | None:
    """Measures one row in a process of its own; None, with the reason, if that fails."""
    command = [sys.executable, __file__, f"--setting={json.dumps(row)}", f"--repeats={FLAGS.repeats}"]
    command.append(f"--omniglot_archives={FLAGS.omniglot_archives}")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"{row} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(rows: list[dict], rate: float) -> str:
    """Returns all rows as a Markdown table, with the ratio to the plain loop beside it."""
    lines = [
        f"Large float32 matrix product on this machine: {rate:.0f} GFLOP/s.",
        "",
        "| task | N | T | meta-batch | engine | s a meta-step (min, max) | faster than plain | GFLOP/s | examples/s "
        "| data | compile s | peak MB |",
        "|" + " --- |" * 12,
    ]
    plain = {_cell(row): row["seconds_median"] for row in rows if row["engine"] == "plain"}
    for row in rows:
        ratio = f"{plain[_cell(row)] / row['seconds_median']:.2f}x" if _cell(row) in plain else "-"
        rate_text = f"{row['gflop_per_second']:.0f}" if row["gflop_per_second"] else "-"
        lines.append(
            f"| {row['task']} | {row['num_plastic_layers']} | {row['lifetime']} | {row['meta_batch']} "
            f"| {row['engine']} | {row['seconds_median']:.3f} ({row['seconds_min']:.3f}, {row['seconds_max']:.3f}) "
            f"| {ratio} "
            f"| {rate_text} | {row['examples_per_second']:.0f} | {row['data_share']:.1%} "
            f"| {row['compile_seconds']:.1f} | {row['peak_mb']:.0f} |"
        )
    return "\n".join(lines)


def _cell(row: dict) -> tuple:
    return tuple(row[key] for key in KEYS if key != "engine")


def plot(rows: list[dict], path: Path) -> None:
    """Draws time and peak memory against T, one line an engine, at N=3."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for engine, marker in zip(ENGINES, "sDo"):
        mine = [r for r in rows if (r["task"], r["engine"]) == ("sine", engine)]
        mine = [r for r in mine if (r["num_plastic_layers"], r["meta_batch"]) == (3, 1)]
        mine.sort(key=lambda row: row["lifetime"])
        for axis, key in zip(axes, ("seconds_median", "peak_mb")):
            axis.plot([r["lifetime"] for r in mine], [r[key] for r in mine], marker=marker, label=engine)
    for axis, label in zip(axes, ("seconds a meta-step", "peak memory of the process [MB]")):
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
        "paper's sine network, batches of 32. `plain` is `tf.while_loop` and `GradientTape` with the trunk outside "
        "the loop, `plain_xla` the same compiled, `lifetime` this library's engine. Times on shared machines are "
        "noise; compare within a setting. GFLOP/s counts the arithmetic without recomputation, "
        "data is the share of time that drawing the episode takes.\n\n"
        f"{table(rows, rate)}\n\n## A bfloat16 trunk\n\nMeta-gradients of `--trunk_precision=bfloat16` against "
        f"float32, the same ten lifetimes of {PRECISION_RUN}:\n\n{os.linesep.join(precision_effect())}\n\n"
        f"## Against the length of a lifetime\n\n![Time and memory against T]({picture.name})\n"
    )


def main(argv: list[str]) -> None:
    del argv
    if FLAGS.setting:
        print(json.dumps(measure(json.loads(FLAGS.setting))))
        return
    try:
        wanted = settings()
    except re.error as error:
        sys.exit(f"--match={FLAGS.match} is no regular expression: {error}")
    if not wanted:
        sys.exit(f"--match={FLAGS.match} matches no row; rows are called `task N T meta-batch`, such as `sine 3 400 1`")
    from tqdm import tqdm

    rate, rows = matmul_rate(), []
    for setting in tqdm(wanted, unit="row"):
        if row := in_fresh_process(setting):
            rows.append(row)
        if FLAGS.json:
            Path(FLAGS.json).write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows, rate))
    if FLAGS.report:
        report(rows, rate, Path(FLAGS.report))


if __name__ == "__main__":
    app.run(main)
