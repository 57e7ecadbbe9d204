"""The run directory: the interface between a run and all that comes after it.

config.json       everything needed to repeat the run
checkpoints/      meta-parameters, optimizers and counters
result.json       the meta-test of the finished run
evaluation.json   that of `--mode=evaluate`
export/           the SavedModel
events.out.*      TensorBoard
"""

import importlib.metadata
import json
import os
import platform
import re
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from flp_tf.config import Config

PACKAGES = ("tensorflow", "keras", "numpy")


class RunDirectory:
    """A run's files under `--logdir`.

    Args:
        path: the folder; `claim` makes it.
    """

    def __init__(self, path: str):
        self.path = Path(path).expanduser()
        self.config_file = self.path / "config.json"
        self.checkpoints = self.path / "checkpoints"
        self.export = self.path / "export"

    def claim(self, config: Config) -> bool:
        """Makes the folder and writes `config.json`, or finds the same run in it.

        Returns:
            Whether there is a run to continue.

        Raises:
            ValueError: if the folder cannot be written, or holds another run.
        """
        self.check_writable()
        if self.config_file.exists():
            self.check_same_run(config)
            return True
        if self.checkpoints.exists():
            raise ValueError(f"--logdir={self.path} holds checkpoints without a config.json; name an empty folder")
        self.write("config.json", {**config.to_dict(), "versions": versions()})
        return False

    def check_same_run(self, config: Config) -> None:
        """Raises ValueError, naming what differs, if `config` describes another run."""
        differences = config.differences(self.config())
        if differences:
            raise ValueError(f"--logdir={self.path} holds another run: {', '.join(differences)}")

    def check_writable(self, flag: str = "logdir") -> None:
        """Raises ValueError, naming the flag that named the folder, unless files can be made in it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise ValueError(f"--{flag}={self.path} cannot be written: {error.strerror}") from None

    def config(self) -> Config:
        """Returns the run's configuration.

        Raises:
            ValueError: if there is no readable one.
        """
        try:
            return Config.from_dict(self.read("config.json"))
        except OSError as error:
            raise ValueError(f"--logdir={self.path} holds no run (config.json: {error.strerror})") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"--logdir={self.path} has an unreadable config.json: {error}") from None

    def read(self, name: str) -> dict[str, Any]:
        """Returns a JSON file of the folder."""
        return json.loads((self.path / name).read_text())

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Writes a JSON file whole or not at all."""
        temporary = self.path / f".{name}.{os.getpid()}"
        temporary.write_text(json.dumps(content, indent=2) + "\n")
        temporary.replace(self.path / name)


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that results depend on."""
    from flp_tf import __version__

    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"flp_tf": __version__, "python": platform.python_version(), **packages}


def machine() -> str:
    """Returns what computes here, such as "2 x Intel(R) Xeon(R) Processor" or "1 x NVIDIA H100"."""
    if gpus := tf.config.list_physical_devices("GPU"):
        return f"{len(gpus)} x {tf.config.experimental.get_device_details(gpus[0]).get('device_name', 'GPU')}"
    return f"{os.cpu_count()} x {_cpu_name()}"


def _cpu_name() -> str:
    try:
        return re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return platform.machine()
