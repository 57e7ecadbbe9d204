"""Named components, each with options of its own.

A registry maps the values of a flag to components: `--rule=oja` chooses `RULES["oja"]`.
A component is a class (or another callable) with

* `Options`, a frozen dataclass of its options. Each field is a flag, and an argument of
  the component's constructor. Subclasses inherit it; a component without one has the
  registry's.
* `uses`, the flags of other registries whose chosen component it needs.
* `trains`, the groups of meta-learned weights that it has. Each brings the options
  `GROUP_rate` and `GROUP_optimizer` of the outer loop.

A new component is one file and one line: `@RULES.register("covariance")`.
"""

import dataclasses
import functools
import inspect
import math
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from flp_tf.errors import ContractError, InputError

T = TypeVar("T")
# TensorFlow counts in int32 and computes in float32: what is beyond them wraps round, or becomes infinite.
MOST_INT, MOST_FLOAT = 2**31 - 1, (2 - 2**-23) * 2.0**127
REGISTRIES: dict[str, "Registry"] = {}


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """The options of a component that has none."""


def option(
    default: Any,
    text: str,
    *,
    legal: Mapping | tuple | None = None,
    least: float = -math.inf,
    most: float = math.inf,
    incidental: bool = False,
    extensible: bool = False,
    excludes: str = "",
    path: bool = False,
) -> Any:
    """Returns a field of an `Options` dataclass.

    Args:
        default: the value where neither the user nor the task's recipe says another.
        text: a sentence for `--help`.
        legal: the legal values; all of the type if None.
        least: the least legal number, also of each entry of a tuple.
        most: the largest legal number.
        incidental: whether the option leaves what is learned as it is (how often to
            evaluate, where data lie), so that it may differ when a run goes on.
        extensible: whether a run may go on with a larger value.
        excludes: an option of the same component that says the same in another way. Only one
            of them can be given; where this one is, a recipe's value of that one is not used.
        path: whether it names a file or folder; a command line that gives an empty one is refused.
    """
    metadata = {"help": text, "legal": legal, "least": least, "most": most}
    metadata |= {"incidental": incidental, "extensible": extensible, "excludes": excludes, "path": path}
    return dataclasses.field(default=default, metadata=metadata)


def kind(options: type, name: str) -> Any:
    """Returns the type of an option: bool, int, float, str or a tuple of one of these."""
    return _kinds(options)[name]


@functools.cache
def _kinds(options: type) -> dict[str, Any]:
    return typing.get_type_hints(options)


def check(options: Any, prefix: str = "") -> None:
    """Checks all values of an `Options` instance.

    Args:
        options: the instance.
        prefix: what stands before a field's name in its flag.

    Raises:
        InputError: naming the flag, the value and what is legal.
    """
    for field in dataclasses.fields(options):
        flag, value = f"--{prefix}{field.name}", getattr(options, field.name)
        wanted = kind(type(options), field.name)
        entries = value if isinstance(value, tuple) else (value,)
        of_entry = typing.get_args(wanted)[0] if typing.get_origin(wanted) is tuple else wanted
        fits = isinstance(value, tuple) == (typing.get_origin(wanted) is tuple)
        if not fits or not all(_is_a(entry, of_entry) for entry in entries):
            raise InputError(f"{flag}={value!r} is not of the right type; legal is {describe(wanted)}")
        for entry in entries:
            _check_entry(flag, entry, field.metadata)
        other = field.metadata["excludes"]
        if other and value and getattr(options, other):
            raise InputError(
                f"--{prefix}{other}={text(getattr(options, other))} does not go with {flag}={text(value)}; "
                "legal is one of them"
            )


def describe(wanted: Any) -> str:
    """Returns the name of an option's type, for messages: "an integer", "numbers joined by commas"."""
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
    if typing.get_origin(wanted) is tuple:
        return {int: "integers", float: "numbers", str: "texts"}[typing.get_args(wanted)[0]] + " joined by commas"
    return names[wanted]


def _is_a(value: Any, wanted: type) -> bool:
    if wanted is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, wanted)


def _check_entry(flag: str, value: Any, metadata: Mapping[str, Any]) -> None:
    legal, least, most = metadata["legal"], metadata["least"], metadata["most"]
    if legal is not None and value not in legal:
        raise InputError(f"{flag}={value} is unknown; legal values: {', '.join(sorted(legal))}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{flag}={value} is not a finite number")
        largest = MOST_INT if isinstance(value, int) else MOST_FLOAT
        least, most = max(least, -largest), min(most, largest)
        if value < least:
            raise InputError(f"{flag}={_number(value)} is too small; legal values are {_number(least)} or more")
        if value > most:
            raise InputError(f"{flag}={_number(value)} is too large; legal values are {_number(most)} or less")


def text(value: Any) -> str:
    """Returns a value as it stands on the command line."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _number(value: float) -> str:
    """Returns a number as a user writes it: integers in full, unless they have more than 20 digits."""
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else f"{'-' * (value < 0)}1e{int(math.log10(abs(value)))}"
    return str(int(value)) if value.is_integer() and abs(value) < 1e6 else str(value)


class Choice(NamedTuple):
    """A chosen component with its options; calling it makes the component.

    Attributes:
        component: the registered class or callable.
        options: an instance of its `Options`.
    """

    component: Callable[..., Any]
    options: Any = NoOptions()

    def __call__(self, **context: Any) -> Any:
        """Returns `component(**context, **options)`.

        Raises:
            ContractError: if the component does not take these arguments.
        """
        fields = {field.name: getattr(self.options, field.name) for field in dataclasses.fields(self.options)}
        try:
            inspect.signature(self.component).bind(**context, **fields)
        except TypeError as error:
            name = getattr(self.component, "__name__", repr(self.component))
            raise ContractError(f"{name} cannot be made of {', '.join(context | fields)}: {error}") from None
        return self.component(**context, **fields)


def _source(component: Any) -> tuple:
    """Returns where a component is defined; one that has no name of its own is another every time."""
    name = getattr(component, "__qualname__", None)
    return (component.__module__, name) if name and "<lambda>" not in name else (id(component),)


class Registry(Mapping[str, Any]):
    """Components by name, for one flag.

    Example:
        >>> RULES = Registry("rule", default="oja", text="Local plasticity rule.")
        >>> RULES.register("silent")(lambda kernel, pre, post: 0.0 * kernel)

    Args:
        flag: the flag that names an entry, without dashes.
        default: the name that is taken where nothing else is said; empty for none.
        text: a sentence for `--help`.
        prefix: what stands before an option's name in its flag.
        options: the `Options` of components that have none of their own.
        adapt: turns what is registered into a component, such as a function into a class.
    """

    def __init__(
        self,
        flag: str,
        default: str = "",
        text: str = "",
        *,
        prefix: str = "",
        options: type = NoOptions,
        adapt: Callable[[Any], Any] = lambda component: component,
    ):
        self.flag, self.default, self.text, self.prefix = flag, default, text, prefix
        self._options, self._adapt = options, adapt
        self._components: dict[str, Any] = {}
        self._sources: dict[str, tuple] = {}
        REGISTRIES[flag] = self

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator that registers its argument as `name`.

        A function or class that is defined again, as in a cell of a notebook, takes its own place.

        Raises:
            InputError: if the name is taken by another, or an option of the same flag has another type.
        """

        def add(component: T) -> T:
            if name in self._components and self._sources.get(name) != _source(component):
                raise InputError(f"--{self.flag}={name} is registered already")
            self._components[name], self._sources[name] = self._adapt(component), _source(component)
            return component

        return add

    def options(self, name: str) -> type:
        """Returns the `Options` dataclass of a component."""
        return getattr(self[name], "Options", self._options)

    def uses(self, name: str) -> tuple[str, ...]:
        """Returns the flags of the other registries whose component this one needs."""
        return tuple(getattr(self[name], "uses", ()))

    def trains(self, name: str) -> tuple[str, ...]:
        """Returns the groups of meta-learned weights of a component."""
        return tuple(getattr(self[name], "trains", ()))

    def __getitem__(self, name: str) -> Any:
        """Returns a component; raises InputError, with the legal values, if there is none."""
        if name not in self._components:
            raise InputError(f"--{self.flag}={name} is unknown; legal values: {', '.join(sorted(self))}")
        return self._components[name]

    def __contains__(self, name: object) -> bool:
        return name in self._components

    def __iter__(self) -> Iterator[str]:
        return iter(self._components)

    def __len__(self) -> int:
        return len(self._components)
