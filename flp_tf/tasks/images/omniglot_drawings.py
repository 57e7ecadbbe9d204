"""Sources of Omniglot's drawings: what all have in common, and tensorflow-datasets."""

import http.client
import queue
import threading
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flp_tf.errors import InputError
from flp_tf.files import check_writable

# Where tensorflow-datasets gets them from, and the seconds in which it has to answer.
DOWNLOADS, PATIENCE = "https://github.com/brendenlake/omniglot", 6.0


class Character(NamedTuple):
    """A class of Omniglot; unique by alphabet and number, whatever archive holds it."""

    alphabet: str
    character: str


class Drawings(NamedTuple):
    """The drawings of all classes, as PNG files by name: `{character: {name: png}}`.

    Attributes:
        classes: the drawings. An archive that repeats a class adds nothing to it.
        evaluation_alphabets: alphabets of the official evaluation set, the paper's
            meta-test classes.
    """

    classes: dict[Character, dict[str, bytes]]
    evaluation_alphabets: set[str]


class Source(NamedTuple):
    """Drawings to be read if need be.

    Attributes:
        name: for messages.
        flag: the flag that chooses it, for messages.
        key: tells the drawings from those of other sources.
        read: returns them.
        notes: what a user should know of them, in lines.
    """

    name: str
    flag: str
    key: str
    read: Callable[[], Drawings]
    notes: tuple[str, ...] = ()


def from_tensorflow_datasets(data_dir: Path) -> Source:
    """Returns the drawings of `tfds.load("omniglot")`, downloaded at first use.

    Raises:
        InputError: when read, if they can be neither found in `data_dir` nor downloaded.
    """
    return Source("tensorflow-datasets", "--task=omniglot", "tfds", lambda: _read_tensorflow_datasets(data_dir))


def _read_tensorflow_datasets(data_dir: Path) -> Drawings:
    local = [
        path for pattern in ("omniglot/*/dataset_info.json", "downloads/*omniglot*") for path in data_dir.glob(pattern)
    ]
    if not local:
        if not _reachable():
            raise _offline(data_dir, f"no answer from {DOWNLOADS.partition('//')[2].partition('/')[0]}")
        check_writable(data_dir, "data_dir")
    # Imported here: it takes seconds, and most tasks do not need it.
    import tensorflow_datasets as tfds

    try:
        splits, info = tfds.load(
            "omniglot",
            split={"train": "train", "test": "test"},
            data_dir=data_dir,
            with_info=True,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
    except (OSError, tfds.download.DownloadError) as error:
        raise _offline(data_dir, type(error).__name__) from error
    alphabets = info.features["alphabet"]
    classes, evaluation_alphabets = defaultdict(dict), set()
    for split, examples in splits.items():
        for example in examples.as_numpy_iterator():
            alphabet = alphabets.int2str(example["alphabet"])
            drawings = classes[Character(alphabet, f"character{example['alphabet_char_id'] + 1:02d}")]
            drawings[f"{split}_{len(drawings):02d}"] = example["image"]
            if split == "test":
                evaluation_alphabets.add(alphabet)
    return Drawings(classes, evaluation_alphabets)


def _offline(data_dir: Path, reason: str) -> InputError:
    return InputError(
        f"--task=omniglot is neither in --data_dir={data_dir} nor can be downloaded ({reason}); "
        "offline, --omniglot_archives=DIR reads the official archives"
    )


def _reachable() -> bool:
    """Returns whether the host of the downloads answers within `PATIENCE` seconds, through a proxy if there is one.

    tensorflow-datasets tries again and again for minutes.
    """
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(DOWNLOADS, method="HEAD"), timeout=PATIENCE).close()
            answers.put(True)
        except urllib.error.HTTPError:
            # It answers, whatever it says.
            answers.put(True)
        except (OSError, http.client.HTTPException):
            answers.put(False)

    # In a thread, because looking up a name has no time limit.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=PATIENCE)
    except queue.Empty:
        return False
