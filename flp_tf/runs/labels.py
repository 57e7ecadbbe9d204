"""Which run a result is of: nothing is replaced but results of the same run.

A result of `--mode=evaluate` or `export` holds its run's configuration: a JSON file as the
field `run`, a SavedModel and a LiteRT file in a file `flp_tf.json` that they carry.
Results of flp_tf before December 2026 hold none.
"""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flp_tf.errors import InputError
from flp_tf.export import litert, saved_model
from flp_tf.runs import files
from flp_tf.runs.config import Config

EVALUATION, REPORT = "evaluation.json", "litert.json"
# By which JSON files of older versions are known.
FIELDS = {EVALUATION: "meta_test", REPORT: "milliseconds_per_step"}
# What the fifth byte of a LiteRT file and the next are.
IDENTIFIER = b"TFL3"


def label(config: Config) -> dict[str, Any]:
    """Returns what says which run a result is of: all options that make another run, by flag."""
    free = config.flags_with("incidental")
    return {flag: value for flag, value in config.to_dict().items() if flag not in free}


def check(path: Path, config: Config, flag: str, at_home: bool) -> None:
    """Checks that a result of a run may be written, and replaces none but an earlier one of the same run.

    Args:
        path: of the file, or of the folder of a SavedModel.
        config: of the run.
        flag: the flag that names the folder, for messages.
        at_home: whether it is where the run itself has its results. There those of older
            versions, which do not say what they are of, are the run's, and those of fewer
            lifetimes are of its own past. Elsewhere they may be of another run.

    Raises:
        InputError: if something else is there.
    """
    if not os.path.lexists(path):
        return
    wrong = f"--{flag}: {path} is in the way"
    try:
        found = _label_of(path)
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError, zipfile.BadZipFile):
        raise InputError(f"{wrong}: flp_tf did not write it; move it, or name another folder") from None
    if found is None and not at_home:
        raise InputError(f"{wrong}: it does not say which run it is of; move it, or name another folder")
    if found is not None and (differences := _differences(config, found, exactly=not at_home)):
        raise InputError(f"{wrong}: it is of another run: {differences}; move it, or name another folder")


def _differences(config: Config, found: Mapping[str, Any], exactly: bool) -> str:
    try:
        return ", ".join(config.differences(Config.from_dict(found), exactly))
    except InputError as error:
        return str(error)


def _label_of(path: Path) -> Any:
    """Returns the label of a result, None if it has none; raises an error of many kinds if it is no such result."""
    if path.is_symlink():
        raise ValueError
    if path.name in FIELDS:
        return _of_json(path)
    return _of_litert(path) if path.name == litert.FILE else _of_saved_model(path)


def _of_json(path: Path) -> Any:
    content = json.loads(files.content(path))
    if "run" not in content and FIELDS[path.name] not in content:
        raise ValueError
    return content.get("run")


def _of_litert(path: Path) -> Any:
    if not path.is_file():
        raise ValueError
    with path.open("rb") as file:
        if file.read(8)[4:] != IDENTIFIER:
            raise ValueError
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(litert.LABEL))["run"]


def _of_saved_model(path: Path) -> Any:
    if not saved_model.free(path):
        raise ValueError
    file = path / saved_model.LABEL
    return json.loads(file.read_bytes())["run"] if file.exists() else None
