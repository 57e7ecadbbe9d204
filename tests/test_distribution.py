"""Splitting a meta-batch over processes, against one process with the whole of it."""

import socket
from pathlib import Path
from typing import NamedTuple

import commands
import numpy as np
import pytest

pytestmark = pytest.mark.slow

FLAGS = (
    "--recipe=paper",
    "--task=sine",
    "--continual",
    "--num_sines=2",
    "--network=8",
    "--lifetime=4",
    "--batch_size=4",
    "--query_size=4",
    "--meta_batch=2",
    "--episodes=20",
    "--slow_rate=1e-2",
    "--feedback_rate=1e-2",
    "--plasticity_rate=1e-2",
    "--strength_rate=1e-2",
    "--slow_optimizer=muon",
    "--feedback_optimizer=adamw",
    "--weight_decay=0.1",
    "--average=0.9",
    "--plasticity_scale=1e-3",
    "--eval_episodes=2",
    "--eval_every=100000",
    "--log_every=1000",
    "--segment_length=-1",
    "--nojit_compile",
    "--seed=3",
)


class Process(NamedTuple):
    """A command that ended."""

    pid: int
    code: int
    said: str


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _variables(logdir: Path) -> dict[str, np.ndarray]:
    """Returns all variables of the newest checkpoint but the time it took, which differs between runs."""
    newest = max((logdir / "checkpoints").glob("ckpt-*.npz"), key=lambda file: int(file.stem.split("-")[1]))
    with np.load(newest) as content:
        return {name: content[name] for name in content.files if name != "outer/seconds"}


def _assert_same_variables(logdir: Path, other: Path) -> None:
    mine, theirs = _variables(logdir), _variables(other)
    assert mine.keys() == theirs.keys() and len(mine) > 20
    for name, value in mine.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Path:
    logdir = tmp_path_factory.mktemp("single") / "run"
    with pytest.MonkeyPatch.context() as patch:
        commands.make_bare(patch)
        commands.run(*FLAGS, f"--logdir={logdir}")
    return logdir


# The one process with two devices, then the two workers.
PROCESSES = """
import tensorflow as tf
from flp_tf import main
from flp_tf.runs.summaries import Summaries

def on_two_devices(arguments):
    cpu, = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    main.main(arguments)

Summaries._picture = lambda *_: None
mirrored, distributed, clusters = values
processes = [forked.Child(mirrored, Path.cwd(), call=on_two_devices)]
ends = [processes[0].wait(180)]
processes += [forked.Child(distributed, Path.cwd(), {"TF_CONFIG": json.dumps(cluster)}) for cluster in clusters]
ends += [process.wait(180) for process in processes[1:]]
result = [[process.pid, end.code, end.out + end.err] for process, end in zip(processes, ends)]
"""


def test_two_devices_and_then_two_workers_learn_what_one_process_learns(single, tmp_path):
    """The mean meta-gradient over two replicas is that of one process: 10 outer steps agree.

    Five have both replicas in one process, as on a machine with two GPUs; after its end two
    workers go on from its checkpoint. What SIGKILL leaves of a run is in `test_resume.py`.
    """
    logdir = tmp_path / "run"
    flags = [*FLAGS, f"--logdir={logdir}"]
    mirrored = [*flags, "--episodes=10", "--distribution=mirrored"]
    cluster = {"worker": [f"127.0.0.1:{port}" for port in _free_ports(2)]}
    clusters = [{"cluster": cluster, "task": {"type": "worker", "index": i}} for i in range(2)]
    distributed = [*flags, "--checkpoint_minutes=0", "--distribution=multi_worker"]
    devices, chief, worker = map(Process._make, commands.fork(PROCESSES, mirrored, distributed, clusters))
    for process in (devices, chief, worker):
        assert process.code == 0, process.said[-3000:]
    assert f"Continuing {logdir} after 10 lifetimes." in chief.said
    _assert_same_variables(logdir, single)
    # They save on the way, too.
    assert {path.stem for path in (logdir / "checkpoints").iterdir()} == {"ckpt-8", "ckpt-9", "ckpt-10"}
    writers = {int(path.name.split(".")[-3]) for path in logdir.glob("events.out.*")}
    assert writers == {devices.pid, chief.pid}, "only the chief writes events"
    mine, theirs = (commands.meta_test(d / "result.json")["mean"] for d in (logdir, single))
    assert mine == pytest.approx(theirs, rel=1e-3)
