"""A folder of photos, searched to any depth.

One of the catalog's sources; ids are the paths below the folder, with forward slashes, sorted. What is left out or
ignored is counted and logged.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from PIL import Image

from pipeline.catalog.base import Catalog, checked
from pipeline.config import EXCLUDE
from pipeline.errors import RelookError
from pipeline.types import ImageRecord

logger = logging.getLogger("relook")

NOT_UTF8 = "its name is not UTF-8; rename the file"

# HEIC, JPEG XL and the raw files of cameras: without the extra that reads them they are failures that name it.
_HEIC_AND_JXL = {".heic", ".heif", ".hif", ".jxl"}
_RAW = {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef"}
_RAW |= {".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
_BY_EXTRAS = frozenset(_HEIC_AND_JXL | _RAW)
# Documents, films and data that Pillow opens for the pictures in them.
_NOT_PHOTOS = {".pdf", ".eps", ".ps", ".mpg", ".mpeg", ".psd", ".wmf", ".emf", ".h5", ".hdf", ".hdf5", ".grib"}
_SHOWN_ENDINGS = 8


def load_folder(
    folder: Path, labels: Literal["none", "folder"] = "none", exclude: Sequence[str] | None = EXCLUDE
) -> Catalog:
    """Every picture below `folder`; links to folders are not followed.

    A name that is not UTF-8 cannot be in any table: such a picture is among the catalog's `failed`.

    Args:
        folder: where to look.
        labels: "folder" takes the name of the folder that a picture lies in as its label.
        exclude: patterns of files and folders that are left out, in upper or lower case; one with a / is compared with
            the path below `folder`, others with the name. None: nothing is left out.

    Raises:
        RelookError: there is no such folder, it or one below that is not left out cannot be read, or it holds no
            pictures; the message counts what was ignored.
    """
    if not folder.is_dir():
        raise RelookError(f"{folder}: no such folder")
    walk = _Walk(folder, exclude or ())
    records, failed = [], []
    for path in sorted(walk.pictures, key=lambda path: path.as_posix()):
        name = printable(path)
        if name == path.as_posix():
            records.append(ImageRecord(id=name, path=name, label=path.parent.name if labels == "folder" else ""))
        else:
            failed.append((name, name, NOT_UTF8))
    if walk.excluded:
        counts = ", ".join(f"{count:,} {pattern}" for pattern, count in walk.excluded.most_common())
        logger.info("%s: left out by catalog.exclude: %s", folder, counts)
    if walk.ignored and (records or failed):
        logger.info("%s: %s", folder, walk.ignored_text)
    if not records and not failed:
        raise RelookError(f"{folder}: holds no images{'; ' + walk.ignored_text if walk.ignored else ''}")
    count = walk.ignored.total()
    return checked(folder, records, str(folder), count, failed, outside="allow")  # these paths were met there


def printable(path: Path) -> str:
    """The path as text; with "\\xe9" for a byte that is not UTF-8."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


class _Walk:
    """What lies below a folder.

    Attributes:
        pictures: relative paths of files that are pictures by their names.
        ignored: how many other files there are by ending, and links to folders.
        excluded: how many files and folders each pattern left out.
    """

    def __init__(self, folder: Path, exclude: Sequence[str]) -> None:
        self.pictures: list[Path] = []
        self.ignored: Counter[str] = Counter()
        self.excluded: Counter[str] = Counter()
        pattern_of = _matcher(exclude)
        suffixes = _suffixes()
        # A folder that cannot be read ends the run: going on would take its pictures for removed.
        for directory, folders, files in os.walk(folder, onerror=_refuse):
            place = Path(directory)
            folders[:] = self._kept(folder, place, folders, pattern_of)
            self.ignored["links to folders"] += sum((place / name).is_symlink() for name in folders)
            for name in self._kept(folder, place, files, pattern_of):
                suffix = Path(name).suffix.lower()
                if suffix in suffixes:
                    self.pictures.append((place / name).relative_to(folder))
                else:
                    self.ignored[suffix or "files without an ending"] += 1
        self.ignored += Counter()  # drops what was not met

    def _kept(
        self, folder: Path, place: Path, names: Iterable[str], pattern_of: Callable[[str, str], str | None]
    ) -> list[str]:
        below = "" if place == folder else f"{place.relative_to(folder).as_posix()}/"
        kept = []
        for name in names:
            pattern = pattern_of(name, below + name)
            if pattern is None:
                kept.append(name)
            else:
                self.excluded[pattern] += 1
        return kept

    @property
    def ignored_text(self) -> str:
        """How many files were ignored, by ending."""
        count = self.ignored.total()
        shown = [f"{number:,} {ending}" for ending, number in self.ignored.most_common(_SHOWN_ENDINGS)]
        tables = any(self.ignored[ending] for ending in (".csv", ".parquet"))
        rest = count - sum(number for _, number in self.ignored.most_common(_SHOWN_ENDINGS))
        shown += [f"{rest:,} others"] if rest else []
        hint = "; a table of images is given by its own path" if tables and not self.pictures else ""
        return f"{count:,} {'file' if count == 1 else 'files'} ignored: {', '.join(shown)}{hint}"


def _matcher(exclude: Sequence[str]) -> Callable[[str, str], str | None]:
    """A function that returns the first pattern that matches the name or the path below the root, or None."""
    patterns = [(pattern, "/" in pattern, re.compile(fnmatch.translate(pattern), re.IGNORECASE)) for pattern in exclude]

    def pattern_of(name: str, path: str) -> str | None:
        for pattern, whole, compiled in patterns:
            if compiled.match(path if whole else name):
                return pattern
        return None

    return pattern_of


@cache
def _suffixes() -> frozenset[str]:
    """The endings of pictures: what Pillow opens, stereo pairs, which it opens as JPEG, and what needs an extra."""
    extensions = Image.registered_extensions()
    known = {ending for ending, name in extensions.items() if name in Image.OPEN}
    return frozenset(known | _BY_EXTRAS | {".mpo"}) - _NOT_PHOTOS


def _refuse(error: OSError) -> None:
    raise RelookError(
        f"{error.filename}: {error.strerror}; its photos would count as removed: make it readable, or leave it out "
        "with catalog.exclude"
    )
