"""What a meta-step costs, counted: operations of the graph, and memory of a process."""

import json
import subprocess
import sys

import commands
import pytest
import tensorflow as tf
from helpers import meta_gradient, newborn_learner

from flp_tf import lifetime
from flp_tf.tasks import TASKS

pytestmark = pytest.mark.slow


def count_operations(meta_batch: int) -> int:
    """Returns the operations of a meta-step's graph, those of its loops' bodies included."""
    task = TASKS["sine"](num_sines=2, lifetime=16, batch_size=4, query_size=4)
    learner = newborn_learner(task, network="8-8", num_plastic_layers=2)
    step = tf.function(lambda episode: meta_gradient(learner, task, episode, segment_length=4), autograph=False)
    graph = step.get_concrete_function(task.sample(0, tf.constant(0), meta_batch, "train")).graph.as_graph_def()
    return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)


def test_meta_batch_of_16_launches_what_one_lifetime_does():
    """One graph with a leading dimension: its operations do not grow with the meta-batch."""
    assert count_operations(16) <= 1.02 * count_operations(1)


def test_peak_memory_is_that_of_the_process_alone():
    """A child of a process that held much counts its own pages only; `getrusage` counts its parent's too."""
    held = bytearray(b"1") * 2**28
    # Without TensorFlow, which takes seconds and most of the memory.
    code = """import sys, types
sys.modules["tensorflow"] = types.ModuleType("tensorflow")
sys.path.insert(0, "tools")
import measure
print(measure.peak_megabytes())"""
    done = subprocess.run([sys.executable, "-c", code], cwd=commands.ROOT, capture_output=True, text=True, check=True)
    assert 1 < float(done.stdout) < len(held) / 2**20


def peaks(*engines: str, steps: int) -> list[float]:
    """Returns the peak memory of a process after a meta-step by each engine, of plastic layers alone.

    Batches are small, because they cost time, and what is kept is weights.
    """
    code = """import json, sys
sys.path.insert(0, "tools")
import measure
flags_of = measure.flags_of
measure.flags_of = lambda row: flags_of(row) | {"network": "300-300", "num_sines": 5, "batch_size": 2, "query_size": 5}
print(json.dumps([measure.measure(row)["peak_mb"] for row in json.loads(sys.argv[1])]))"""
    row = {"task": "sine", "num_plastic_layers": 2, "lifetime": steps, "meta_batch": 1, "repeats": 1}
    done = commands.python(code, json.dumps([row | {"engine": engine} for engine in engines]))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_memory_of_a_long_lifetime_stays_low():
    """At T=625 the plain loop keeps 625 copies of the weights and more, the engine about 50: 25 segments of 25."""
    weights = 4 * (300 * 300 + 300) / 2**20
    assert 625 * weights * 2**20 > lifetime.engine.KEPT_BYTES
    # The engine first, because a process keeps its peak.
    engine, plain = peaks("lifetime", "plain_xla", steps=625)
    assert plain - engine > 2 * 625 * weights
