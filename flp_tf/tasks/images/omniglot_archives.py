"""Omniglot's archives on disk, as zip files or as unpacked trees."""

import contextlib
import hashlib
import re
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flp_tf.errors import InputError
from flp_tf.files import printable
from flp_tf.tasks.images import omniglot_official
from flp_tf.tasks.images.omniglot_drawings import Character, Drawings, Source
from flp_tf.tasks.images.omniglot_official import ARCHIVES, EVALUATION

EXPECTED = f"one or more of {', '.join(f'{name}.zip' for name in ARCHIVES)}, or their unpacked folders"
# The path of a drawing inside an archive: Greek/character01/0394_01.png
# Names that start with a dot are of the system, such as `._0394_01.png` of a Mac.
DRAWING = re.compile(r"(?P<alphabet>[^/.][^/]*)/(?P<character>character\d+)/(?P<name>[^/.][^/]*\.png)")
# What a damaged zip file, or a file in it that is damaged, encrypted or packed in an unknown way, raises.
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)


class Listing(NamedTuple):
    """The files of an archive.

    Attributes:
        path: of the archive.
        identity: tells it from others.
        drawings: where each drawing is, by its path as in `DRAWING`: a file, or its name in the zip file.
        skipped: files that are no drawings.
    """

    path: Path
    identity: str
    drawings: dict[str, Path | str]
    skipped: list[str]


def from_archives(folder: Path) -> Source:
    """Returns the drawings of the official archives in a folder.

    Args:
        folder: holds any of the archives, as zip files or as unpacked trees
            `images_background/Greek/character01/0394_01.png`. A zip file that has not the
            official checksum needs the official content: all alphabets and characters,
            and twenty drawings of each. A tree may be a part, which a note says.

    Raises:
        InputError: if there is no archive, a damaged one, or one both packed and unpacked.
    """
    if not folder.is_dir():
        raise InputError(f"--omniglot_archives={folder} is not a folder; expected there: {EXPECTED}")
    found = {}
    for name in ARCHIVES:
        paths = [path for path in (folder / name, folder / f"{name}.zip") if path.exists()]
        if len(paths) > 1:
            raise InputError(f"--omniglot_archives={folder} holds both {name} and {name}.zip; expected one of them")
        if paths:
            found[name] = paths[0]
    if not found:
        raise InputError(f"--omniglot_archives={folder} holds no archive; expected there: {EXPECTED}")
    listings = {name: _tree(path) if path.is_dir() else _zip(path) for name, path in found.items()}
    notes = [note for name, listing in listings.items() for note in _notes(name, listing)]
    identities = [f"{name} {listing.identity}" for name, listing in listings.items()]
    key = hashlib.sha256("\n".join(identities).encode()).hexdigest()[:16]
    return Source(f"{folder} ({', '.join(found)})", "--omniglot_archives", key, lambda: _read(listings), tuple(notes))


def _tree(path: Path) -> Listing:
    with _readable(path):
        # One look at each file tells whether it is one, and whether it changed.
        files = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
        drawings = {name: file for name, file in files.items() if DRAWING.fullmatch(name)}
        if not_text := [name for name in drawings if name.encode(errors="ignore").decode() != name]:
            raise InputError(f"--omniglot_archives: {path} has {not_text[0]!r}, a name that is not UTF-8; rename it")
        stats = {name: file.stat() for name, file in drawings.items()}
    lines = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats.items()]
    identity = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return Listing(path, identity, drawings, [name for name in files if name not in drawings])


def _zip(path: Path) -> Listing:
    if not path.is_file():
        raise InputError(f"--omniglot_archives: {path} cannot be read: it is no file")
    with _readable(path), path.open("rb") as file:
        identity = hashlib.file_digest(file, "sha256").hexdigest()
        with _intact(path, "it is cut off, or no zip file"), zipfile.ZipFile(file) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise _damaged(path, f"{printable(twice[0])} is in it twice")
    # All is inside one folder, which has the name of the archive.
    drawings = {
        name.removeprefix(f"{path.stem}/"): name
        for name in names
        if name.startswith(f"{path.stem}/") and DRAWING.fullmatch(name.removeprefix(f"{path.stem}/"))
    }
    used = set(drawings.values())
    if names and not used:
        raise InputError(
            f"--omniglot_archives={path.parent}: {path.name} has no drawing at "
            f"{path.stem}/ALPHABET/characterNN/*.png, but, for one, {printable(names[0])}"
        )
    return Listing(path, identity, drawings, [name for name in names if name not in used])


def _notes(name: str, listing: Listing) -> Iterator[str]:
    """Yields what a user should know of an archive; raises InputError if one that is packed anew lacks something."""
    path = listing.path
    if path.is_dir() or listing.identity != ARCHIVES[name].checksum:
        places = [tuple(drawing.split("/")[:2]) for drawing in listing.drawings]
        difference = omniglot_official.difference(name, places)
        if path.is_dir() and difference:
            yield f"{path.name} is not the whole official archive: {difference}"
        elif difference:
            raise _damaged(path, f"neither its checksum nor its content is the official one's: {difference}")
        elif not path.is_dir():
            yield f"{path.name} is packed anew; it has the official {omniglot_official.summary(name)}"
    if skipped := listing.skipped:
        yield f"{path.name}: skipped {len(skipped)} files that are no drawings, such as {printable(skipped[0])}"


def _read(listings: dict[str, Listing]) -> Drawings:
    classes, evaluation_alphabets = defaultdict(dict), set()
    for archive, listing in listings.items():
        contents = _read_tree(listing) if listing.path.is_dir() else _read_zip(listing)
        for drawing, png in contents:
            match = DRAWING.fullmatch(drawing)
            classes[Character(match["alphabet"], match["character"])][match["name"]] = png
            if archive == EVALUATION:
                evaluation_alphabets.add(match["alphabet"])
    if not classes:
        paths = ", ".join(str(listing.path) for listing in listings.values())
        raise InputError(f"--omniglot_archives: no drawings in {paths}; expected there: ALPHABET/characterNN/*.png")
    return Drawings(classes, evaluation_alphabets)


def _read_tree(listing: Listing) -> Iterator[tuple[str, bytes]]:
    for drawing, file in listing.drawings.items():
        with _readable(file):
            content = file.read_bytes()
        yield drawing, content


def _read_zip(listing: Listing) -> Iterator[tuple[str, bytes]]:
    with _readable(listing.path), zipfile.ZipFile(listing.path) as archive:
        for drawing, name in listing.drawings.items():
            with _intact(listing.path, f"{name} in it cannot be read"):
                content = archive.read(name)
            yield drawing, content


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns a failure to read a file of an archive into one line."""
    try:
        yield
    except OSError as error:
        raise InputError(f"--omniglot_archives: {error.filename or path} cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def _intact(path: Path, reason: str) -> Iterator[None]:
    """Turns a failure to unpack a zip file into one line."""
    try:
        yield
    except BROKEN:
        raise _damaged(path, reason) from None


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"--omniglot_archives={path.parent}: {path.name} is damaged: {reason}; copy or pack it again")
