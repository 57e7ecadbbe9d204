"""Omniglot: handwritten characters of 50 alphabets (paper, section 5)."""

import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flp_tf.errors import InputError
from flp_tf.files import local
from flp_tf.registry import option
from flp_tf.tasks.base import SPLITS
from flp_tf.tasks.classification import Dataset, DatasetOptions, check_episode
from flp_tf.tasks.images import omniglot_drawings
from flp_tf.tasks.images.cache import cached
from flp_tf.tasks.images.omniglot_archives import from_archives
from flp_tf.tasks.images.omniglot_official import is_evaluation
from flp_tf.tasks.images.png import check_sizes, decode_ink

# One class in this many is kept from meta-training for validation.
VALIDATION_EVERY = 10
# One alphabet in this many is for meta-test, where neither a flag nor the data say which.
TEST_EVERY = 4


@dataclasses.dataclass(frozen=True)
class OmniglotOptions(DatasetOptions):
    """Options of `Omniglot`."""

    omniglot_archives: str = option(
        "",
        "Folder with images_background.zip and images_evaluation.zip (or the small archives), as they are, packed anew "
        "or unpacked, instead of a download. With both, the split is the paper's: meta-test has the evaluation set, "
        "meta-training the background set but every tenth of its classes, which are for validation.",
        incidental=True,
        path=True,
    )
    meta_test_alphabets: tuple[str, ...] = option(
        (), "Alphabets for meta-test instead of the evaluation set (without that: instead of every fourth alphabet)."
    )


class Omniglot(Dataset):
    """Few-shot classification of characters, each drawn by twenty people.

    With tensorflow-datasets, or archives that include `images_evaluation`, meta-test
    has the paper's classes, the alphabets of the official evaluation set; other
    archives are split by alphabet. Every tenth of the other classes is for validation
    (see `split_classes`), the rest for meta-training. Ink is 1, paper 0.

    Args:
        **options: the fields of `OmniglotOptions`.

    Raises:
        InputError: if an option is out of range, or the drawings not as expected.
    """

    Options = OmniglotOptions
    channels = 1

    @staticmethod
    def load_images(options: OmniglotOptions) -> dict[str, np.ndarray]:
        """Returns the drawings by split, uint8 `[classes, drawings, size, size, 1]`."""
        source, path = _source(options)
        arrays = cached(path, lambda: _decode(source, options))
        alphabets, splits = arrays["alphabets"], _splits(arrays, arrays["images"].shape[1], options)
        counts = ", ".join(f"{len(splits[split])} {split}" for split in SPLITS)
        names = alphabets[splits["test"]].tolist()
        test = "the evaluation set, as in the paper" if is_evaluation(names) else ", ".join(sorted(set(names)))
        summary = f"{len(alphabets)} classes of {len(set(alphabets))} alphabets in {source.name}: {counts} ({test})"
        for line in (*source.notes, summary):
            print(f"Omniglot: {line}", file=sys.stderr)
        return {split: arrays["images"][classes] for split, classes in splits.items()}

    @staticmethod
    def is_cached(options: OmniglotOptions) -> bool:
        """Returns whether the drawings are in `data_dir`, decoded."""
        return _source(options)[1].is_file()


def _source(options: OmniglotOptions) -> tuple[omniglot_drawings.Source, Path]:
    """Returns where the drawings come from, and the file of the decoded ones."""
    data_dir = local(options.data_dir, "data_dir")
    if options.omniglot_archives:
        source = from_archives(local(options.omniglot_archives, "omniglot_archives"))
    else:
        source = omniglot_drawings.from_tensorflow_datasets(data_dir)
    return source, data_dir / "flp_tf" / f"omniglot_{options.image_size}px_{source.key}.npz"


def split_classes(
    alphabets: np.ndarray, evaluation: np.ndarray, meta_test_alphabets: Sequence[str], ways: int
) -> dict[str, np.ndarray]:
    """Divides classes among the splits; no alphabet is in meta-test and another split.

    Meta-test has the alphabets that are asked for, else those of the official evaluation
    set, else (archives without it, or nothing else) every fourth alphabet by name. Of the
    other classes every tenth, by alphabet and character, is for validation, or more of
    them where that would be fewer than `ways`.

    Args:
        alphabets: of each class, sorted by alphabet and character.
        evaluation: whether each class is in the official evaluation set.
        meta_test_alphabets: the alphabets of meta-test, if any are asked for.
        ways: classes of an episode.

    Returns:
        Indices of classes by split.

    Raises:
        InputError: if an alphabet is unknown, or too few classes are left for meta-training and validation.
    """
    names = sorted(set(alphabets.tolist()))
    flag = f"--meta_test_alphabets={','.join(meta_test_alphabets)}"
    unknown = sorted(set(meta_test_alphabets) - set(names))
    if unknown:
        raise InputError(f"{flag}: there is no {' and no '.join(unknown)}; legal values: {', '.join(names)}")
    if meta_test_alphabets:
        test = np.isin(alphabets, meta_test_alphabets)
    elif evaluation.any() and not evaluation.all():
        test = evaluation
    else:
        test = np.isin(alphabets, names[TEST_EVERY - 1 :: TEST_EVERY] or names[-1:])
    others = np.flatnonzero(~test)
    if not others.size:
        raise InputError(f"{flag} leaves none of the alphabets {', '.join(names)} for meta-training")
    if ways > len(others) // 2:
        raise InputError(
            f"--ways={ways} is more than half of the {len(others)} classes for meta-training and validation; "
            f"legal values are 2 to {len(others) // 2}"
        )
    every = min(len(others) // ways, VALIDATION_EVERY)
    return {
        "train": np.delete(others, np.s_[every - 1 :: every]),
        "validation": others[every - 1 :: every],
        "test": np.flatnonzero(test),
    }


def _splits(classes: Mapping[str, np.ndarray], drawings: int, options: OmniglotOptions) -> dict[str, np.ndarray]:
    """Returns indices of classes by split.

    Args:
        classes: the arrays `alphabets` and `evaluation` of `_decode`.
        drawings: of each class.
        options: what an episode takes.

    Raises:
        InputError: if there are too few classes or drawings.
    """
    splits = split_classes(classes["alphabets"], classes["evaluation"], options.meta_test_alphabets, options.ways)
    for split, indices in splits.items():
        check_episode(split, len(indices), drawings, options.ways, options.shots, options.query_size)
    return splits


def _decode(source: omniglot_drawings.Source, options: OmniglotOptions) -> dict[str, np.ndarray]:
    """Returns the arrays of the cache, one row per class, in the order of their names."""
    drawings = source.read()
    classes = sorted(drawings.classes)
    counts = {character: len(drawings.classes[character]) for character in classes}
    [(usual, _)] = Counter(counts.values()).most_common(1)
    for character, count in counts.items():
        if count != usual:
            raise InputError(
                f"{source.flag}: {'/'.join(character)} has {count} drawings in {source.name}, "
                f"other classes have {usual}; unpack the archive again"
            )
    arrays = {
        "alphabets": np.array([character.alphabet for character in classes]),
        "characters": np.array([character.character for character in classes]),
        "evaluation": np.array([character.alphabet in drawings.evaluation_alphabets for character in classes]),
    }
    # Before the images are decoded, which takes half a minute.
    _splits(arrays, usual, options)
    files = {
        name: png
        for character in classes
        for name, png in _named(source, character, drawings.classes[character]).items()
    }
    check_sizes(files.items())
    images = decode_ink(files, options.image_size)
    return {"images": images.reshape(len(classes), -1, *images.shape[1:]), **arrays}


def _named(
    source: omniglot_drawings.Source, character: omniglot_drawings.Character, drawings: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Returns the drawings of a class in their order, by what a message calls them."""
    path = "/".join(character)
    return {f"{source.flag}: {path}/{name} in {source.name}": png for name, png in sorted(drawings.items())}
