"""Which names below a folder are pictures, which are left out, and which are ignored, each counted.

What a folder on a disk and one in a bucket have in common.
"""

from __future__ import annotations

import fnmatch
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import PurePosixPath

from PIL import Image

logger = logging.getLogger("relook")

# HEIC, JPEG XL and the raw files of cameras: without the extra that reads them they are failures that name it.
_HEIC_AND_JXL = {".heic", ".heif", ".hif", ".jxl"}
_RAW = {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef"}
_RAW |= {".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
_BY_EXTRAS = frozenset(_HEIC_AND_JXL | _RAW)
# Documents, films and data that Pillow opens for the pictures in them.
_NOT_PHOTOS = {".pdf", ".eps", ".ps", ".mpg", ".mpeg", ".psd", ".wmf", ".emf", ".h5", ".hdf", ".hdf5", ".grib"}
_SHOWN_ENDINGS = 8


class PictureNames:
    """Sorts what a walk meets.

    Args:
        exclude: patterns of files and folders that are left out, in upper or lower case; one with a / is compared with
            the path below the root, others with the name.

    Attributes:
        pictures: paths below the root of files that are pictures by their names.
        ignored: how many other files there are by ending, and links to folders.
        excluded: how many files and folders each pattern left out.
    """

    def __init__(self, exclude: Sequence[str]) -> None:
        self.pictures: list[str] = []
        self.ignored: Counter[str] = Counter()
        self.excluded: Counter[str] = Counter()
        self._patterns = [
            (pattern, "/" in pattern, re.compile(fnmatch.translate(pattern), re.IGNORECASE)) for pattern in exclude
        ]

    def kept(self, below: str, names: Iterable[str]) -> list[str]:
        """Those of the names in a folder that no pattern leaves out; `below` is its path, "" or ending in a slash."""
        kept = []
        for name in names:
            pattern = self._pattern_of(name, below + name)
            if pattern is None:
                kept.append(name)
            else:
                self.excluded[pattern] += 1
        return kept

    def take(self, path: str) -> None:
        """A file that was kept."""
        suffix = PurePosixPath(path).suffix.lower()
        if suffix in _suffixes():
            self.pictures.append(path)
        else:
            self.ignored[suffix or "files without an ending"] += 1

    def report(self, place: object, found: bool) -> None:
        """Log what is left out and, where anything was `found`, what is ignored."""
        if self.excluded:
            counts = ", ".join(f"{count:,} {pattern}" for pattern, count in self.excluded.most_common())
            logger.info("%s: left out by catalog.exclude: %s", place, counts)
        if self.ignored and found:
            logger.info("%s: %s", place, self.ignored_text)

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

    def _pattern_of(self, name: str, path: str) -> str | None:
        for pattern, whole, compiled in self._patterns:
            if compiled.match(path if whole else name):
                return pattern
        return None


@cache
def _suffixes() -> frozenset[str]:
    """The endings of pictures: what Pillow opens, stereo pairs, which it opens as JPEG, and what needs an extra."""
    extensions = Image.registered_extensions()
    known = {ending for ending, name in extensions.items() if name in Image.OPEN}
    return frozenset(known | _BY_EXTRAS | {".mpo"}) - _NOT_PHOTOS
