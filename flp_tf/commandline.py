"""The command line: flags made from all registered components, flagfiles, plugins.

Flags live in a `absl.flags.FlagValues` of their own, made anew at every call. Nothing global is
touched, so a process can parse several command lines, in any thread, and components that
were registered meanwhile have their flags.
"""

import hashlib
import importlib
import importlib.util
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from flp_tf.analysis import ANALYSES
from flp_tf.errors import InputError
from flp_tf.export import FORMATS, litert
from flp_tf.files import local
from flp_tf.registry import describe, kind
from flp_tf.runs.recipes import RECIPES
from flp_tf.runs.sections import places, slots, suggestion

PROGRAM = "flp_tf"
# Flags of the command itself: no run depends on them.
COMMAND = {
    "mode": "What to do.",
    "logdir": "Run directory: configuration, events, checkpoints, results, SavedModel. --mode=analyze takes several, "
    "joined by commas.",
    "analysis": ANALYSES.text,
    "output": "Where --mode=analyze, evaluate and export write; a folder in the run directory by default.",
    "format": f"What --mode=export writes. One of: {', '.join(FORMATS)}.",
    "weights": f"Precision of the weights in a LiteRT file. One of: {', '.join(litert.WEIGHTS)}.",
    "batch": "Examples of an inner step and of a prediction in a LiteRT file, 0 for any number; LiteRT.js, for "
    "browsers, takes files of a fixed number only, such as 1.",
    "plugins": "Python files (FILE.py) or modules to import first, joined by commas; they register own components.",
    "flagfile": "A file of flags, one per line, with comments that start with #; it can name further flagfiles.",
    "undefok": "Flags that are left out if no chosen component has them, joined by commas; for flagfiles of several "
    "methods.",
}
DEFAULTS = {"mode": "train", "logdir": "runs/sine", "format": "saved_model", "weights": "float32", "batch": 0}
HELP = ("--help", "-help", "-h")
# Flags of the command that name something on this machine. `expand` refuses an empty --flagfile.
PATHS = {"logdir": "folder", "output": "folder", "plugins": "file or module"}


class CommandLine(NamedTuple):
    """A command line that was read.

    Attributes:
        command: values of `COMMAND` by flag, with defaults.
        given: values of the other flags that are given, by flag.
        asked: the flags of `command` that are given.
        optional: flags that are left out if no chosen component has them (`--undefok=NAME,...`),
            so that a flagfile can have values for several methods.
        help: whether `--help` is given.
    """

    command: dict[str, Any]
    given: dict[str, Any]
    asked: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    help: bool = False


class _Parser(flags.ArgumentParser):
    """Reads a text as one of the types of options, with an error that says what is legal."""

    def __init__(self, wanted: Any):
        self.wanted = wanted
        self.syntactic_help = describe(wanted)

    def parse(self, argument: str) -> Any:
        """Returns the value; raises ValueError, for absl to name the flag in, if it cannot be read."""
        try:
            if typing.get_origin(self.wanted) is tuple:
                entry = typing.get_args(self.wanted)[0]
                return tuple(entry(part.strip()) for part in argument.split(",")) if argument else ()
            return self.wanted(argument)
        except ValueError:
            raise ValueError(f"cannot be read; legal is {describe(self.wanted)}") from None


class _Truth(flags.BooleanParser):
    """Reads true and false, with an error in words."""

    def parse(self, argument: str) -> bool:
        """Returns the value; raises ValueError if it is none."""
        try:
            return super().parse(argument)
        except (ValueError, TypeError):
            raise ValueError("cannot be read; legal is true or false") from None


def read(arguments: Sequence[str]) -> CommandLine:
    """Reads a command line.

    Args:
        arguments: without the program's name.

    Raises:
        InputError: in one line that names the flag or file.
    """
    arguments = expand(arguments)
    load_plugins(named(arguments, "plugins"))
    if any(argument in HELP for argument in arguments):
        return CommandLine(dict(DEFAULTS), {}, help=True)
    values = define()
    try:
        positional = values([PROGRAM, *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        close = suggestion(error.flagname, list(values)) or ";"
        raise InputError(f"--{error.flagname} is unknown{close} see --help") from None
    except (flags.Error, ValueError) as error:
        raise InputError(
            f"{' '.join(str(error).removeprefix('flag ').split()).replace(': cannot', ' cannot')}; see --help"
        ) from None
    if positional:
        raise InputError(f"{positional[0]} is not a flag; see --help")
    given = {name: values[name].value for name in values if values[name].present}
    for flag in (flag for flag, value in given.items() if value == ""):
        if flag in PATHS or any(place.field.metadata["path"] for place in places().get(flag, [])):
            raise InputError(f"--{flag}= names no {PATHS.get(flag, 'folder')}")
    asked = frozenset(given.keys() & COMMAND.keys())
    command = dict.fromkeys(COMMAND, "") | DEFAULTS | {name: given.pop(name) for name in asked}
    return CommandLine(command, given, asked, frozenset(named(arguments, "undefok")))


def define() -> flags.FlagValues:
    """Returns fresh flags, all of them unset: one per choice and option of what is registered now."""
    values = flags.FlagValues()
    for flag, wanted in kinds().items():
        if wanted is bool:
            holder = flags.BooleanFlag(flag, None, "")
            holder.parser = _Truth()
        else:
            holder = flags.Flag(_Parser(wanted), None, flag, None, "")
        values[flag] = holder
    return values


def kinds() -> dict[str, Any]:
    """Returns the type of every flag.

    Raises:
        InputError: if an option has the name of a flag of the command, or two of one name have different types.
    """
    found: dict[str, Any] = dict.fromkeys((RECIPES.flag, *slots()), str)
    found |= {flag: of_flag[0].kind for flag, of_flag in places().items()}
    for name in ANALYSES:
        for flag, wanted in analysis_options(name).items():
            if found.setdefault(flag, wanted) != wanted:
                raise InputError(f"--{flag} is an option of --analysis={name} and of others, with different types")
    if taken := sorted(found.keys() & COMMAND.keys()):
        raise InputError(f"--{taken[0]} is a flag of the command, an option needs another name")
    # absl reads --undefok itself, and `expand` has read --flagfile.
    of_command = {flag: type(DEFAULTS.get(flag, "")) for flag in COMMAND if flag not in ("flagfile", "undefok")}
    return of_command | found


def analysis_options(name: str) -> dict[str, Any]:
    """Returns the options of an analysis and their types, by flag."""
    options = ANALYSES.options(name)
    return {flag: kind(options, flag) for flag in options.__dataclass_fields__}


def expand(arguments: Sequence[str], within: tuple[Path, ...] = ()) -> list[str]:
    """Returns the arguments with the flags of all flagfiles in the place of `--flagfile=FILE`.

    A file that a flagfile names is beside that flagfile, or relative to the working directory.

    Args:
        arguments: of the command line or of a flagfile.
        within: the flagfiles that are being read.

    Raises:
        InputError: if a file cannot be read, or names itself.
    """
    expanded, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, path = argument.partition("=")
        if name not in ("--flagfile", "-flagfile"):
            expanded.append(argument)
            continue
        if not equals:
            if not rest or rest[0].startswith("-"):
                raise InputError(f"{name} names no file; legal is --flagfile=FILE")
            path = rest.pop(0)
        file = local(path, "flagfile")
        if within and (beside := within[-1].parent / file).exists():
            file = beside
        if file.resolve() in [other.resolve() for other in within]:
            raise InputError(f"--flagfile={path} names itself")
        expanded += expand(_lines(file, path), (*within, file))
    return expanded


def _lines(file: Path, name: str) -> list[str]:
    """Returns the lines of a flagfile without comments."""
    try:
        content = file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"--flagfile={name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        content = "\0"
    if "\0" in content:
        raise InputError(f"--flagfile={name} is no text file; legal is a file of flags, one per line")
    lines = [line.strip() for line in content.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "//"))]


def named(arguments: Sequence[str], flag: str) -> list[str]:
    """Returns what all `--FLAG=A,B` of a command line name, before there are flags."""
    found = []
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        name, equals, value = argument.partition("=")
        if name in (f"--{flag}", f"-{flag}"):
            found += filter(None, (value if equals else following).split(","))
    return found


def load_plugins(names: Sequence[str]) -> None:
    """Imports files and modules that register components, each once per process.

    Args:
        names: paths that end with `.py`, or names of modules.

    Raises:
        InputError: if there is no such file or module. What a plugin raises itself keeps its traceback.
    """
    for name in names:
        if not name.endswith(".py"):
            _import_module(name)
            continue
        path = local(name, "plugins").resolve()
        module = f"flp_tf_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
        if module in sys.modules:
            continue
        if not path.is_file():
            raise InputError(f"--plugins={name} is no file; legal are Python files and names of modules")
        spec = importlib.util.spec_from_file_location(module, path)
        sys.modules[module] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[module])
        except BaseException:
            del sys.modules[module]
            raise


def _import_module(name: str) -> None:
    wrong = InputError(f"--plugins={name} is no module; legal are Python files (FILE.py) and names of modules")
    if not all(part.isidentifier() for part in name.split(".")):
        raise wrong
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise wrong from None
