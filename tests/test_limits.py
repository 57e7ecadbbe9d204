"""Flags that are given empty, and numbers that no machine has the memory or the time for."""

import re

import pytest

from flp_tf.commandline import read
from flp_tf.errors import InputError
from flp_tf.runs.config import configure
from flp_tf.runs.sections import FIXED, places

PLACES = [place for of_flag in places().values() for place in of_flag]
EMPTY = [place.flag for place in PLACES if place.field.metadata["path"]]


@pytest.mark.parametrize("flag", [*EMPTY, "logdir", "output", "plugins"])
def test_a_path_that_is_given_empty_is_refused(flag):
    with pytest.raises(InputError, match=f"^--{flag}= names no (folder|file or module)$"):
        read([f"--{flag}="])


def test_every_option_whose_text_is_of_files_is_known_to_be_a_path():
    named = {place.flag for place in PLACES if place.kind is str and re.search("_(dir|archives|from)$", place.flag)}
    assert named == set(EMPTY) == {"init_from", "data_dir", "omniglot_archives", "mini_imagenet_dir"}


@pytest.mark.parametrize("flag", ["pairs", "dimensions", "episodes", "eval_episodes", "feedback_units"])
def test_what_takes_memory_or_days_has_a_limit(flag):
    for place in PLACES:
        if place.flag == flag:
            value = 100_000_000 if place.kind is int else (100_000_000,)
            chosen = {} if place.section in FIXED else {place.section: place.component}
            with pytest.raises(InputError, match=f"^--{flag}=100000000 is too large; legal values are 1"):
                configure(**chosen, **{flag: value})
