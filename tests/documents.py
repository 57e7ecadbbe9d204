"""What the tests of README.md and CONTRIBUTING.md share: their blocks, and registries that are put back."""

import contextlib
import re
from collections.abc import Iterator

import commands

from flp_tf.meta.optimizers import OPTIMIZERS
from flp_tf.registry import REGISTRIES


def blocks(name: str) -> list[tuple[str, str]]:
    """Returns language and text of every fenced block of a file of the repository."""
    text = (commands.ROOT / name).read_text()
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@contextlib.contextmanager
def registrations() -> Iterator[None]:
    """A context whose end takes back what was registered in it."""
    tables = [registry._components for registry in REGISTRIES.values()] + [OPTIMIZERS]
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        for table, entries in zip(tables, before):
            table.clear()
            table.update(entries)
