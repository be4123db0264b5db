"""Which column of a table is which: exact names, then names that differ by case, spaces or plural, then synonyms.

Below `table_reader`. A column that is taken under another name is reported in the log, and so are columns that are not
read; two columns that may be the same one are an error.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RelookError

logger = logging.getLogger("relook")


@dataclass(frozen=True)
class KnownColumn:
    """A column that a reader understands.

    Attributes:
        name: its name.
        synonyms: other names, in lower case, without spaces, dashes or underscores, singular.
        required: whether a table without it is refused.
        text: whether its cells are texts or numbers; otherwise they may also be lists.
    """

    name: str
    synonyms: frozenset[str] = frozenset()
    required: bool = False
    text: bool = True


_PATHS = """
    file filename filepath image imagefile imagefilename imagename imagepath img imgname imgpath photo photopath picture
    picturepath
"""
_LABELS = "category categoryname class classlabel classname labelname target"
IMAGE_COLUMNS = (
    KnownColumn("path", frozenset(_PATHS.split()), required=True),
    KnownColumn("id"),
    KnownColumn("label", frozenset(_LABELS.split())),
    KnownColumn("split", frozenset({"fold", "set", "subset"})),
    KnownColumn("bbox", frozenset({"box", "boundingbox"}), text=False),
)


def match_columns(header: Sequence[str], known: Sequence[KnownColumn], file: Path) -> dict[str, int]:
    """The place in `header` of each known column that is there.

    Raises:
        RelookError: a required column is missing, or two columns may be the same known one.
    """
    names = [column.name for column in known]
    places = {column.name: find_column(header, column, names, file) for column in known}
    found = {name: place for name, place in places.items() if place is not None}
    for column in known:
        if column.required and column.name not in found:
            given = ", ".join(name or "(no name)" for name in header) or "none"
            raise RelookError(f"{file}: has no column {column.name!r}; its columns are: {given}")
    report_renamed(header, found, file)
    report_unread(header, found, names, file)
    return found


def recognised(header: Sequence[str], known: Sequence[KnownColumn]) -> bool:
    """Whether each required column is in `header`, under any of its names."""
    normal = {_normal(name) for name in header}
    return all(normal & {column.name, *column.synonyms} for column in known if column.required)


def find_column(header: Sequence[str], column: KnownColumn, names: Collection[str], file: Path) -> int | None:
    """Where a column stands in `header`; a synonym counts only where no column has the name itself.

    Args:
        header: the names of the columns.
        column: what to look for.
        names: of all known columns; none of them is a synonym of another one.
        file: for messages.

    Raises:
        RelookError: more than one column may be it.
    """
    for wanted in ({column.name}, column.synonyms - set(names)):
        fitting = [place for place, name in enumerate(header) if _normal(name) in wanted]
        if len(fitting) > 1:
            candidates = " and ".join(repr(header[place]) for place in fitting)
            raise RelookError(f"{file}: columns {candidates} may each be {column.name!r}; rename or remove all but one")
        if fitting:
            return fitting[0]
    return None


def report_renamed(header: Sequence[str], found: Mapping[str, int], file: Path) -> None:
    """Log which columns are taken under another name."""
    renamed = [f"{header[place]!r} as {name}" for name, place in found.items() if header[place] != name]
    if renamed:
        logger.warning("%s: read column %s", file, ", ".join(renamed))


def report_unread(header: Sequence[str], found: Mapping[str, int], names: Collection[str], file: Path) -> None:
    """Log which columns are not read; a name that resembles a missing one of `names` is mentioned."""
    others = [name for place, name in enumerate(header) if place not in found.values() and name]
    if others:
        shown = ", ".join(repr(name) for name in others[:20]) + (f" and {len(others) - 20} more" if others[20:] else "")
        hint = _hint(others, [name for name in names if name not in found])
        logger.info("%s: not read: column %s%s", file, shown, hint)


def _normal(name: str) -> str:
    """A name without case, spaces, dashes, underscores and plural."""
    plain = re.sub(r"[\W_]+", "", name.casefold())
    if plain in _PLURALS:
        return _PLURALS[plain]
    return plain if plain.endswith("ss") else plain.removesuffix("s")


_PLURALS = {
    "bboxes": "bbox",
    "boundingboxes": "boundingbox",
    "boxes": "box",
    "categories": "category",
    "classes": "class",
}


def _hint(others: Sequence[str], missing: Sequence[str]) -> str:
    for name in others:
        nearest = difflib.get_close_matches(_normal(name), missing, n=1, cutoff=0.75)
        if nearest:
            return f"; if {name!r} is meant to be {nearest[0]}, rename it"
    return ""
