"""Measures one row of the benchmark in this process and prints it as JSON.

`tools/benchmark.py` starts it once for each row, so that the peak memory is that of this row:

    python tools/measure.py '{"task": "sine", "engine": "lifetime", ...}'

It measures the flp_tf on `PYTHONPATH`. Checkouts from before the options
moved to their components (commit 7550ab6 and earlier) work, too.
"""

import functools
import importlib.util
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

# `engine` is a plain loop, the same loop compiled, or the library's own engine (also used for a baseline).
PLAIN, PLAIN_XLA = "plain", "plain_xla"
IMAGE_SIZES = {"omniglot_compact": 28, "omniglot_paper": 84, "mini_imagenet_compact": 42}


def flags_of(row: dict) -> dict[str, Any]:
    """Returns the flags of a row's run."""
    flags = {"continual": True, "num_plastic_layers": row["num_plastic_layers"]}
    if row["task"] == "sine":
        # The network is named because recipes choose others.
        return flags | {"task": "sine", "network": "sine_paper", "lifetime": row["lifetime"]}
    flags |= {"network": row["task"], "image_size": IMAGE_SIZES[row["task"]]}
    if row["task"].startswith("mini_imagenet"):
        return flags | {"task": "mini_imagenet", "mini_imagenet_dir": row["images"]}
    return flags | {"task": "omniglot", "rotations": True, "omniglot_archives": row["archives"]}


def check_images(row: dict) -> None:
    """Checks that the folder of a row's images is as expected; the images themselves are not decoded.

    Raises:
        InputError: if it is not.
    """
    from flp_tf.runs.config import configure

    task, options = configure(**flags_of(row)).choice("task")
    task.is_cached(options)


def prepare(row: dict) -> tuple[Any, Callable]:
    """Returns the task of a row, and a function from an episode to its loss, with the meta-gradient taken."""
    if not importlib.util.find_spec("flp_tf.runs"):
        return _before_components(row)
    from flp_tf import learners, lifetime
    from flp_tf.meta.devices import compiled_estimate
    from flp_tf.meta.estimators import Backprop
    from flp_tf.runs.config import configure

    config = configure(**flags_of(row))
    task = config.make_task()
    learner = learners.build(config, task)
    estimator = config.choice("estimator")()
    seed = tf.constant([0, 0])
    if row["engine"] in (PLAIN, PLAIN_XLA):
        estimate = functools.partial(Backprop(segment_length=lifetime.PLAIN).estimate, learner, task, seed=seed)
        return task, tf.function(estimate, autograph=False, jit_compile=row["engine"] == PLAIN_XLA)
    return task, functools.partial(compiled_estimate(estimator, learner, task), seed=seed)


def _before_components(row: dict) -> tuple[Any, Callable]:
    """Does the same as `prepare`, with the interfaces of commit 7550ab6."""
    from flp_tf.config import Config
    from flp_tf.meta.objective import compiled_meta_gradient, meta_gradient

    from flp_tf import learners, lifetime
    from flp_tf.tasks import TASKS

    config = Config(**flags_of(row)).resolve()
    task = TASKS[config.task].from_config(config)
    learner = learners.build(config, task)
    if row["engine"] in (PLAIN, PLAIN_XLA):
        plain = functools.partial(meta_gradient, learner, task, segment_length=lifetime.PLAIN)
        return task, tf.function(plain, autograph=False, jit_compile=row["engine"] == PLAIN_XLA)
    return task, compiled_meta_gradient(learner, task)


def peak_megabytes() -> float:
    """Returns the peak memory of this process.

    It is read from `/proc` (Linux), because `getrusage` also counts the memory of the parent at the fork.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024


def measure(row: dict) -> dict:
    """Returns the seconds of each meta-step after the first, and all other measurements.

    Args:
        row: `task`, `engine`, `num_plastic_layers`, `lifetime`, `meta_batch`, `repeats`, and `archives` or
            `images` for networks of images.
    """
    began = time.perf_counter()
    task, step = prepare(row)
    prepared = time.perf_counter() - began
    sample = tf.function(lambda index: task.sample(0, index, row["meta_batch"], "train"), autograph=False)

    def timed(index: int) -> tuple[float, float]:
        began = time.perf_counter()
        episode = sample(tf.constant(index))
        episode.query_y.numpy()
        drawn = time.perf_counter()
        step(episode).loss.numpy()
        return time.perf_counter() - drawn, drawn - began

    first, _ = timed(0)
    seconds, data = zip(*[timed(1 + i) for i in range(row["repeats"])])
    queries = getattr(task, "query_examples", None) or task.query_size
    return {
        "seconds": seconds,
        "data_seconds": data,
        "prepare_seconds": prepared,
        "compile_seconds": first - min(seconds),
        "peak_mb": peak_megabytes(),
        "examples": row["meta_batch"] * (task.steps * task.batch_size + queries),
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
