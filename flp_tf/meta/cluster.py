"""The processes of `--distribution=multi_worker`, as `TF_CONFIG` names them."""

import json
import os
import re
import socket
import sys
from collections.abc import Mapping
from typing import Any

from flp_tf.errors import InputError

VARIABLE = "TF_CONFIG"
JOBS = ("chief", "worker")
EXAMPLE = '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'


def check() -> dict[str, str]:
    """Checks `TF_CONFIG`, as far as one process can.

    Returns:
        The addresses of the other processes, by name such as `worker 1`; empty if the variable is not set.

    Raises:
        InputError: naming the error and a legal value.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return {}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong("is not JSON") from None
    cluster, task = (content.get(name) if isinstance(content, dict) else None for name in ("cluster", "task"))
    if not isinstance(cluster, dict) or not cluster or not set(cluster) <= set(JOBS):
        raise _wrong(f"has no cluster of {' and '.join(JOBS)}")
    for job, addresses in cluster.items():
        if not isinstance(addresses, list) or not addresses or not all(map(_is_address, addresses)):
            raise _wrong(f"has no list of HOST:PORT for {job}")
    if len(cluster.get("chief", ())) > 1:
        raise _wrong("has several chiefs")
    named = {f"{job} {index}": address for job in cluster for index, address in enumerate(cluster[job])}
    if len(set(named.values())) < len(named):
        raise _wrong("has an address twice")
    own = _own(task)
    if own not in named:
        raise _wrong(f"says that this process is {own}, but the cluster has {', '.join(named)}")
    return {name: address for name, address in named.items() if name != own}


def _wrong(what: str) -> InputError:
    return InputError(f"--distribution=multi_worker: {VARIABLE} {what}; legal is {EXAMPLE}")


def _own(task: Any) -> str:
    """Returns the name of this process."""
    kind, index = (task.get(name) if isinstance(task, dict) else None for name in ("type", "index"))
    # TensorFlow also accepts strings of digits.
    if isinstance(index, bool) or not re.fullmatch(r"[0-9]{1,9}", str(index)):
        raise _wrong(f"has the task index {index!r}")
    return f"{kind} {int(index)}"


def _is_address(address: Any) -> bool:
    match = re.fullmatch(r".+:([0-9]{1,5})", address) if isinstance(address, str) else None
    return match is not None and 0 < int(match[1]) < 1 << 16


def name_the_silent(others: Mapping[str, str]) -> None:
    """Prints which other processes do not answer yet: TensorFlow waits for them silently and without a time limit.

    Args:
        others: addresses by name.
    """
    silent = [f"{name} ({address})" for name, address in others.items() if not _answers(address)]
    if silent:
        print(
            f"flp_tf: --distribution=multi_worker waits for {', '.join(silent)} of {VARIABLE}; "
            f"start the same command there, or end this one with kill -9 {os.getpid()}",
            file=sys.stderr,
            flush=True,
        )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=1):
            return True
    except OSError:
        return False
