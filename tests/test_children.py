"""What a tool starts ends with it."""

import signal
import subprocess
import sys

import commands
import pytest

sys.path.insert(0, str(commands.ROOT / "tools"))

import children
from children import SIGNALS, Ended, ended_together


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_what_was_started(number):
    """Also what is started within; then signals are handled as before."""
    before, processes = signal.getsignal(number), []
    with pytest.raises(Ended) as ended, ended_together(processes):
        processes.append(subprocess.Popen(["sleep", "60"]))
        signal.raise_signal(number)
    assert ended.value.status == 128 + number
    assert processes[0].wait(timeout=10) == -signal.SIGTERM
    assert signal.getsignal(number) == before


def test_an_ignored_signal_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_together([]):
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_jobs_share_out_the_cores(monkeypatch):
    """Each core goes to one job; jobs beyond the number of cores have all of them."""
    monkeypatch.setattr(children.os, "sched_getaffinity", lambda _: {5, 1, 2}, raising=False)
    assert children.core_shares(1) == [[1, 2, 5]]
    assert children.core_shares(2) == [[1, 5], [2]]
    assert children.core_shares(4) == [[1], [2], [5], [1, 2, 5]]
    monkeypatch.delattr(children.os, "sched_getaffinity")
    assert children.core_shares(2) == [[], []], "a system that cannot pin"
