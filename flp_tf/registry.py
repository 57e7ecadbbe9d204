"""Named choices: what a flag may say, and where users add their own."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Registry(dict):
    """A dictionary of named components that explains itself when asked wrong.

    Example:
        >>> RULES = Registry("rule")
        >>> RULES.register("silent")(lambda kernel, pre, post: 0.0 * kernel)
    """

    def __init__(self, flag: str, *args, **kwargs):
        """Args: flag: the command-line flag that names an entry, without dashes."""
        super().__init__(*args, **kwargs)
        self.flag = flag

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator that files its argument under `name`."""

        def add(component: T) -> T:
            if name in self:
                raise ValueError(f"--{self.flag}={name} is registered already")
            self[name] = component
            return component

        return add

    def __missing__(self, name: str):
        raise ValueError(f"--{self.flag}={name} is unknown; legal values: {', '.join(sorted(self))}")
