"""What others put into folders: it is refused, is not lost, and is not waited for."""

import json
import os

import pytest
from commands import contents

from flp_tf.errors import InputError
from flp_tf.runs import files


def refused(function, *arguments, **named) -> str:
    """Calls a function that has to refuse; returns what it says."""
    with pytest.raises(InputError) as refusal:
        function(*arguments, **named)
    return str(refusal.value)


def lock(folder, name):
    with files.locked(folder, name):
        pass


@pytest.mark.parametrize("content", ["mine", "{}", "[1]", "3", "null", '{"pid": 1}', '{"pid": 1, "host": "a", "b": 1}'])
@pytest.mark.parametrize("name", [files.LOCK, f".evaluation.json{files.LOCK}"])
def test_a_lock_file_of_someone_else_stays(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    assert f"{tmp_path / name} is not a lock file of flp_tf" in refused(lock, tmp_path, name)
    assert contents(tmp_path) == {name: content.encode()}


@pytest.mark.parametrize("content", ["", '{"pid": 1, "host": "a"}'])
def test_a_lock_file_of_a_dead_process_is_taken_over(content, tmp_path):
    (tmp_path / files.LOCK).write_text(content)
    with files.locked(tmp_path):
        assert json.loads((tmp_path / files.LOCK).read_text())["pid"] == os.getpid()
    assert contents(tmp_path) == {}


def test_what_took_the_place_of_the_lock_file_stays(tmp_path):
    with files.locked(tmp_path):
        (tmp_path / "new").write_text("mine")
        (tmp_path / "new").replace(tmp_path / files.LOCK)
    assert contents(tmp_path) == {files.LOCK: b"mine"}
