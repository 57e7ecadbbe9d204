"""What the official Omniglot archives hold: https://github.com/brendenlake/omniglot."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

BACKGROUND, EVALUATION = "images_background", "images_evaluation"
SMALL1, SMALL2 = "images_background_small1", "images_background_small2"
# Drawings of every character, each by another person.
DRAWINGS = 20
# Characters of every alphabet.
OF_BACKGROUND = {
    "Alphabet_of_the_Magi": 20,
    "Anglo-Saxon_Futhorc": 29,
    "Arcadian": 26,
    "Armenian": 41,
    "Asomtavruli_(Georgian)": 40,
    "Balinese": 24,
    "Bengali": 46,
    "Blackfoot_(Canadian_Aboriginal_Syllabics)": 14,
    "Braille": 26,
    "Burmese_(Myanmar)": 34,
    "Cyrillic": 33,
    "Early_Aramaic": 22,
    "Futurama": 26,
    "Grantha": 43,
    "Greek": 24,
    "Gujarati": 48,
    "Hebrew": 22,
    "Inuktitut_(Canadian_Aboriginal_Syllabics)": 16,
    "Japanese_(hiragana)": 52,
    "Japanese_(katakana)": 47,
    "Korean": 40,
    "Latin": 26,
    "Malay_(Jawi_-_Arabic)": 40,
    "Mkhedruli_(Georgian)": 41,
    "N_Ko": 33,
    "Ojibwe_(Canadian_Aboriginal_Syllabics)": 14,
    "Sanskrit": 42,
    "Syriac_(Estrangelo)": 23,
    "Tagalog": 17,
    "Tifinagh": 55,
}
OF_EVALUATION = {
    "Angelic": 20,
    "Atemayar_Qelisayer": 26,
    "Atlantean": 26,
    "Aurek-Besh": 26,
    "Avesta": 26,
    "Ge_ez": 26,
    "Glagolitic": 45,
    "Gurmukhi": 45,
    "Kannada": 41,
    "Keble": 26,
    "Malayalam": 47,
    "Manipuri": 40,
    "Mongolian": 30,
    "Old_Church_Slavonic_(Cyrillic)": 45,
    "Oriya": 46,
    "Sylheti": 28,
    "Syriac_(Serto)": 23,
    "Tengwar": 25,
    "Tibetan": 42,
    "ULOG": 26,
}


class Archive(NamedTuple):
    """An official archive.

    Attributes:
        checksum: sha256, the one that tensorflow-datasets pins.
        alphabets: number of characters of every alphabet.
    """

    checksum: str
    alphabets: dict[str, int]


def _background(*alphabets: str) -> dict[str, int]:
    return {alphabet: OF_BACKGROUND[alphabet] for alphabet in alphabets}


ARCHIVES = {
    BACKGROUND: Archive("ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640", OF_BACKGROUND),
    EVALUATION: Archive("1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee", OF_EVALUATION),
    SMALL1: Archive(
        "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
        _background("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"),
    ),
    SMALL2: Archive(
        "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
        _background("Greek", "Japanese_(katakana)", "Latin", "Sanskrit", "Tagalog"),
    ),
}


def difference(name: str, drawings: Iterable[tuple[str, str]]) -> str:
    """Returns in what the content of an archive differs from the official one's; nothing if in nothing.

    Compared are the names of alphabets and characters, and that each has `DRAWINGS` drawings.

    Args:
        name: of the archive, a key of `ARCHIVES`.
        drawings: alphabet and character of every drawing, such as `("Greek", "character01")`.
    """
    official, counts = ARCHIVES[name].alphabets, Counter(drawings)
    found = defaultdict(set)
    for alphabet, character in counts:
        found[alphabet].add(character)
    if missing := sorted(official.keys() - found.keys()):
        return f"it lacks {len(missing)} of {len(official)} alphabets, such as {missing[0]}"
    if more := sorted(found.keys() - official.keys()):
        return f"it has the alphabet {more[0]}, which the official archive has not"
    for alphabet, characters in sorted(found.items()):
        if differing := sorted(characters ^ {f"character{i:02d}" for i in range(1, official[alphabet] + 1)}):
            place = "lacks" if differing[0] not in characters else "has"
            return f"it {place} {alphabet}/{differing[0]}, of {official[alphabet]} characters"
    for character, count in sorted(counts.items()):
        if count != DRAWINGS:
            return f"{'/'.join(character)} has {count} drawings, not {DRAWINGS}"
    return ""


def is_evaluation(alphabets: Iterable[str]) -> bool:
    """Returns whether these are all classes of the official evaluation set, given by the alphabet of each."""
    return Counter(alphabets) == ARCHIVES[EVALUATION].alphabets


def summary(name: str) -> str:
    """Returns what an official archive holds, in words."""
    alphabets = ARCHIVES[name].alphabets
    return f"{len(alphabets)} alphabets, {sum(alphabets.values())} characters, {DRAWINGS} drawings each"
