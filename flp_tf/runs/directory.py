"""The run directory: everything that comes after a run reads it from here.

config.json       everything needed to repeat the run
checkpoints/      weights, optimizers and counters, see `checkpoints`
export/           the SavedModel
result.json       the meta-test of the finished run; written last
evaluation.json   the meta-test of `--mode=evaluate`
events.out.*      TensorBoard
.lock             there while a process trains here, or writes a result
"""

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

import flp_tf
from flp_tf.errors import InputError
from flp_tf.files import check_no_link, check_writable, local, read_bytes, unmade, whole
from flp_tf.registry import text
from flp_tf.runs import checkpoints, labels, locks
from flp_tf.runs.config import Config
from flp_tf.runs.recipes import RECIPES
from flp_tf.runs.summaries import SUFFIX

PACKAGES = ("tensorflow", "keras", "numpy")


class RunDirectory:
    """A run's files under `--logdir`.

    Args:
        path: the folder; `claimed` makes it.
        flag: the flag that names it, for messages.

    Raises:
        InputError: if the path cannot be that of a local folder.
    """

    def __init__(self, path: str | os.PathLike[str], flag: str = "logdir"):
        self.flag = flag
        self.path = local(path, flag)
        self.config_file = self.path / "config.json"
        self.result_file = self.path / "result.json"
        self.checkpoints = self.path / "checkpoints"
        self.export = self.path / "export"

    @contextlib.contextmanager
    def claimed(self, config: Config) -> Iterator[None]:
        """A context in which the folder holds this run, and no other process trains in it.

        Makes the folder if there is none. A folder of the same run is taken over, to
        continue it. A folder of another run is taken over if it has no checkpoint yet. Nothing in
        it is changed before `record`.

        Args:
            config: the run's configuration.

        Raises:
            InputError: if the folder cannot be written, is in use, or holds another run.
        """
        self.check_writable()
        with locks.locked(self.path):
            self._check(config)
            for folder in (self.path, self.checkpoints):
                locks.remove_partial(folder)
            yield

    @contextlib.contextmanager
    def results(self, names: Sequence[str], config: Config, home: Path | None) -> Iterator[None]:
        """A context in which the folder has room for results of a run, and no other process writes them.

        Makes the folder if there is none; after an error, no empty folder is left.

        Args:
            names: of the files, and of the folders of SavedModels, that are going to be written.
            config: of the run.
            home: where the run itself has results of these names.

        Raises:
            InputError: if the folder cannot be written, is in use, is that of another run or of
                a SavedModel, or contains something else under one of the names.
        """
        self._check_no_export()
        with unmade(self.path):
            self.check_writable()
            of_run = self._is_ours()
            if of_run:
                self.check_same_run(config)
            # Other results may be written to the folder at the same time, unless a process trains there.
            with locks.locked(self.path, locks.LOCK if of_run else f".{names[0]}{locks.LOCK}"):
                at_home = home is not None and self.path.resolve() == home.resolve()
                for name in names:
                    labels.check(self.path / name, [config], self.flag, at_home, exactly=not at_home)
                locks.remove_partial(self.path, names)
                yield

    def extended(self, config: Config) -> bool:
        """Returns whether a continued run is to be longer than its `config.json` says.

        Args:
            config: of the run that claimed the folder; the only possible difference is a larger extensible option.
        """
        return bool(Config.from_dict(self.read("config.json")).differences(config))

    def check_data(self, config: Config, fingerprint: str) -> None:
        """Checks that a task has the data that the run was started with, wherever they are stored.

        Args:
            config: of the run, with the present locations of the data.
            fingerprint: of the task.

        Raises:
            InputError: if the data differ. Runs of versions that wrote no fingerprint are not checked.
        """
        if self.read("config.json").get("versions", {}).get("data", fingerprint) == fingerprint:
            return
        incidental = config.flags_with("incidental")
        flags = [flag for flag in config.flags_with("path") if flag in incidental and getattr(config, flag)]
        now = " ".join(f"--{flag}={getattr(config, flag)}" for flag in reversed(flags)) or f"--task={config.task}"
        raise InputError(
            f"{now} has other data than those that --{self.flag}={self.path} was started with; name those, or "
            f"train on the others in another folder, from its weights, by --init_from={self.path}"
        )

    def record(self, config: Config, restored: bool, fingerprint: str = "") -> None:
        """Writes `config.json`.

        Args:
            config: of the run that claimed the folder.
            restored: whether it continues from a checkpoint. If so, the versions that it was
                started with stay, incidental options get their present values, and a result of
                fewer lifetimes is removed.
            fingerprint: of the task, see `check_data`.
        """
        before = self.read("config.json") if restored else {}
        if restored and self.extended(config):
            self.result_file.unlink(missing_ok=True)
        of_data = {"data": fingerprint} if fingerprint else {}
        content = {**config.to_dict(), "versions": of_data | before.get("versions", versions())}
        if content != before:
            self.write("config.json", content)

    def _check(self, config: Config) -> None:
        trained = checkpoints.any_in(self.checkpoints)
        if not self.config_file.exists():
            # Events without a config.json are of a run that lost it: it is written before them.
            if trained or self.result_file.exists() or any(self.path.glob(f"*{SUFFIX}")):
                raise InputError(f"--{self.flag}={self.path} holds a run without a config.json; name an empty folder")
        elif trained or (rest := [path for path in (self.result_file, self.export) if path.exists()]):
            self.check_same_run(config)
            if not trained:
                raise InputError(
                    f"--{self.flag}={self.path} holds a finished run ({rest[0].name}) without its checkpoints; "
                    "to train anew, name another folder"
                )
            self._compare_versions()
        elif not self._is_ours():
            raise InputError(f"--{self.flag}={self.path} has a config.json that is not of a run; name another folder")
        self._check_room(config)

    def _check_room(self, config: Config) -> None:
        """Raises InputError if something is in the way of the run's files, before hours of training are spent."""
        check_no_link(self.checkpoints, self.path, self.flag)
        expected = {self.checkpoints: Path.is_dir, self.config_file: Path.is_file, self.result_file: Path.is_file}
        for path, is_right in expected.items():
            if os.path.lexists(path) and not is_right(path):
                raise InputError(f"--{self.flag}={self.path}: {path} is in the way; move it, or name another folder")
        at_home = self.config_file.exists()
        labels.check(self.export, [config], self.flag, at_home, exactly=not at_home)

    def _check_no_export(self) -> None:
        """Raises InputError in a SavedModel's folder: it is replaced as a whole, so it may have no other files."""
        path = self.path.resolve()
        for folder in (path, *path.parents):
            of_run = folder.name == self.export.name and RunDirectory(folder.parent)._is_ours()
            if of_run or (folder / "saved_model.pb").exists():
                raise InputError(f"--{self.flag}={self.path}: {folder} is for a SavedModel alone; name another folder")

    def _is_ours(self) -> bool:
        """Returns whether `config.json` is one that this library wrote."""
        with contextlib.suppress(InputError):
            written_by = (content := self.read("config.json")).get("versions")
            return "task" in content and isinstance(written_by, Mapping) and "flp_tf" in written_by
        return False

    def _compare_versions(self) -> None:
        """Prints a message if the run was started with other versions than it continues with."""
        before, now = self.read("config.json").get("versions", {}), versions()
        changed = [f"{name} {before.get(name)}, now {now[name]}" for name in now if now[name] != before.get(name)]
        if changed:
            print(f"flp_tf: {self.path} goes on with other versions: {', '.join(changed)}", file=sys.stderr)

    def check_same_run(self, config: Config) -> None:
        """Raises InputError, naming what differs, if `config` describes another run."""
        if differences := config.differences(self.config()):
            raise InputError(
                f"--{self.flag}={self.path} holds another run: {', '.join(differences)}; name another folder"
            )

    def check_writable(self, flag: str = "") -> None:
        """Makes the folder if it is missing, and checks that files can be made in it.

        Args:
            flag: the flag that names the folder, if it is not the constructor's.

        Raises:
            InputError: if the folder or files in it cannot be made.
        """
        check_writable(self.path, flag or self.flag)

    def config(self) -> Config:
        """Returns the run's configuration.

        Raises:
            InputError: if there is no readable one.
        """
        if not self.config_file.is_file():
            raise InputError(f"--{self.flag}={self.path} holds no run (it has no config.json)")
        content = self.read("config.json")
        try:
            config = Config.from_dict(content)
        except InputError as error:
            raise InputError(f"--{self.flag}={self.path} has an unreadable config.json: {error}") from None
        if RECIPES.flag in content and (missing := sorted(config.to_dict().keys() - content.keys())):
            values = ", ".join(f"--{flag}={text(getattr(config, flag))}" for flag in missing)
            print(f"flp_tf: {self.config_file} lacks {', '.join(missing)}; taken: {values}", file=sys.stderr)
        return config

    def read(self, name: str) -> dict[str, Any]:
        """Returns a JSON file of the folder.

        Raises:
            InputError: if it cannot be read, or is not a JSON object.
        """
        try:
            content = json.loads(read_bytes(self.path / name), parse_constant=_refuse_constant)
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{self.path / name} cannot be read: {error}") from None
        if not isinstance(content, dict):
            raise InputError(f"{self.path / name} cannot be read: it is not a JSON object")
        return content

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON file completely or not at all; numbers that are not finite become null.

        Raises:
            InputError: if it cannot be written.
        """
        text = json.dumps(_finite(content), indent=2, allow_nan=False)
        with whole(self.path / name) as file:
            file.write(f"{text}\n".encode())


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(content: Any) -> Any:
    """Returns the same structure with None in place of numbers that are not finite."""
    if isinstance(content, Mapping):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that results depend on."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"flp_tf": flp_tf.__version__, "python": platform.python_version(), **packages}


def machine() -> str:
    """Returns the processors of this machine, such as "2 x Intel(R) Xeon(R) Processor" or "1 x NVIDIA H100"."""
    if gpus := tf.config.list_physical_devices("GPU"):
        return f"{len(gpus)} x {tf.config.experimental.get_device_details(gpus[0]).get('device_name', 'GPU')}"
    return f"{os.cpu_count()} x {_cpu_name()}"


def _cpu_name() -> str:
    try:
        return re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return platform.machine()
