"""The contract of an analysis.

An analysis is a function

    analyze(runs, output, *, lifetimes, seed, **options) -> Result

of

* `runs`, a list of `flp_tf.runs.run.Run`: loaded meta-trained networks to compare,
* `output`, the folder of its results,
* `lifetimes` and `seed`: which unseen lifetimes (split "test") of each network it measures,
* the fields of its `Options`, if it has any: a frozen dataclass that is an attribute of the function.

A new analysis is a module with `@ANALYSES.register(NAME)` before its function. It gets curves
from `series.measure` and a picture from `figures`, and ends with `result.save`, or with
`result.write` if its table has columns of its own.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from flp_tf.registry import Registry

T = TypeVar("T", bound=Callable[..., Any])

ANALYSES = Registry("analysis", text="What --mode=analyze draws.")


def with_options(options: type) -> Callable[[T], T]:
    """Returns a decorator that gives an analysis its `Options`.

    Args:
        options: a frozen dataclass whose fields are made with `flp_tf.registry.option`.
    """

    def add(analyze: T) -> T:
        analyze.Options = options
        return analyze

    return add
