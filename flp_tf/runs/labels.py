"""Labels of results, which say of which run they are: only results of the same run are replaced.

A result of `--mode=evaluate` or `export` contains its run's configuration: a JSON file in the
field `run`, a SavedModel and a LiteRT file in a file `flp_tf.json` inside them. The
picture of an analysis contains the configurations of all its runs, in a text.
Results of flp_tf before December 2026 contain none.
"""

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from flp_tf.errors import InputError
from flp_tf.export import litert, saved_model
from flp_tf.files import read_bytes
from flp_tf.runs.config import Config

EVALUATION, REPORT = "evaluation.json", "litert.json"
# Fields by which JSON files of older versions are recognized.
FIELDS = {EVALUATION: "meta_test", REPORT: "milliseconds_per_step"}
# The bytes of a LiteRT file from the fifth on.
IDENTIFIER = b"TFL3"
# Name of the text in an analysis' PNG that has the labels of its runs.
PICTURE = "flp_tf"
# Errors from reading a file that is not a result.
UNREADABLE = (
    *(OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError, SyntaxError),
    zipfile.BadZipFile,
)


def label(config: Config) -> dict[str, Any]:
    """Returns the label of a result: all options that determine which run it is, by flag."""
    free = config.flags_with("incidental")
    return {flag: value for flag, value in config.to_dict().items() if flag not in free}


def check(path: Path, configs: Sequence[Config], flag: str, at_home: bool, exactly: bool) -> None:
    """Checks that a result of runs may be written: it may only replace an earlier one of some or all of these runs.

    Args:
        path: of the file, or of the folder of a SavedModel.
        configs: of the runs.
        flag: the flag that names the folder, for messages.
        at_home: whether it is where a run itself has its results. Results of older versions
            have no label; in this place they count as the run's.
        exactly: whether a result of fewer lifetimes counts as that of another run. In the run's own folder it is
            an earlier result of the run.

    Raises:
        InputError: if something else is there.
    """
    if not os.path.lexists(path):
        return
    wrong = f"--{flag}: {path} is in the way"
    try:
        found = [Config.from_dict(of_run) for of_run in _labels_of(path)]
    except InputError as error:
        raise InputError(f"{wrong}: it is of another run: {error}; move it, or name another folder") from None
    except UNREADABLE:
        raise InputError(f"{wrong}: flp_tf did not write it; move it, or name another folder") from None
    if not found and not at_home:
        raise InputError(f"{wrong}: it does not say which run it is of; move it, or name another folder")
    for of_run in found:
        differences = [config.differences(of_run, exactly) for config in configs]
        if all(differences):
            least = ", ".join(min(differences, key=len))
            raise InputError(f"{wrong}: it is of another run: {least}; move it, or name another folder")


def _labels_of(path: Path) -> list[Any]:
    """Returns the labels of a result, which may be none; raises errors of many kinds if it is no such result."""
    if path.is_symlink():
        raise ValueError
    if path.name in FIELDS:
        found = _of_json(path)
    elif path.name == litert.FILE:
        found = _of_litert(path)
    elif path.is_dir():
        found = _of_saved_model(path)
    else:
        return _of_picture(path)
    return [] if found is None else [found]


def _of_picture(path: Path) -> list[Any]:
    if not path.is_file():
        raise ValueError
    with Image.open(path, formats=["PNG"]) as picture:
        return json.loads(picture.info.get(PICTURE, "[]"))


def _of_json(path: Path) -> Any:
    content = json.loads(read_bytes(path))
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
