"""Vectors in CSVs that other programs wrote: a bracketed list in one cell, or one column a value.

One of the foreign formats. The first has columns `vecid`, `vectors` and, where known, `labels`; a list may have commas
or only spaces between its numbers, and line breaks in it, as numpy prints one. The second has an id, perhaps a label,
and every other column is a value. Both are read as strictly as manifests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.catalog.header_names import KnownColumn, find_column, report_renamed, report_unread
from pipeline.catalog.strict_csv import StrictCsv
from pipeline.errors import RelookError
from pipeline.stores.exchange.base import ExternalImage, ExternalSource, Options
from pipeline.types import FloatArray

_ID = KnownColumn("vecid", frozenset({"id"}))
_VECTOR = KnownColumn("vector", frozenset({"value", "embedding", "feature", "descriptor"}))
_LABEL = KnownColumn("label", frozenset({"category", "class", "classname", "target"}))
# A vector of 4,096 values takes some 50,000.
_MOST_CHARACTERS = 16 << 20
_NAMES = {"vecid", "vector", "label"}


def open_csv(source: Path, options: Options) -> ExternalSource:
    """Open such a file; its header decides which of the two it is.

    Raises:
        RelookError: it cannot be read, or has no column of ids or of values; later, a row is bad: the message names its
            number (from 1, the header not counted) and the value.
    """
    return ExternalSource("csv", None, _images(source))


def _images(source: Path) -> Iterator[ExternalImage]:
    table = StrictCsv(source, lambda header: find_column(header, _ID, _NAMES, source) is not None, _MOST_CHARACTERS)
    found = {column.name: find_column(table.header, column, _NAMES, source) for column in (_ID, _VECTOR, _LABEL)}
    places = {name: place for name, place in found.items() if place is not None}
    if "vecid" not in places:
        raise RelookError(f"{source}: has no column vecid or id; its columns are: {', '.join(table.header[:8])}")
    report_renamed(table.header, {name: place for name, place in places.items() if name == "label"}, source)
    if "vector" in places:
        report_unread(table.header, places, (), source)
    key, label = places["vecid"], places.get("label")
    values = _values(source, table.header, places)
    seen: dict[str, int] = {}
    first = 0
    for row in table:
        where = f"{source}, row {table.number}"
        name = row[key].strip()
        if not name:
            raise RelookError(f"{where}: its id is empty")
        where = f"{where} ({name!r})"
        if name in seen:
            raise RelookError(f"{where}: duplicate id, row {seen[name]} has it too")
        seen[name] = table.number
        vector = values(row, where)
        first = first or len(vector)
        if len(vector) != first:
            raise RelookError(f"{where}: {len(vector)} values, row 1 has {first}")
        yield ExternalImage(name, where, "" if label is None else row[label].strip(), vector)


def _values(source: Path, names: Sequence[str], places: Mapping[str, int]) -> Callable[[list[str], str], FloatArray]:
    """What makes a vector of a row."""
    cell = places.get("vector")
    if cell is not None:
        return lambda row, where: _numbers(_listed(row[cell], where), where)
    columns = [place for place in range(len(names)) if place not in places.values()]
    unnamed = next((place for place in columns if not names[place]), None)
    if unnamed is not None:  # such as the row numbers that pandas writes
        raise RelookError(f"{source}: column {unnamed + 1} has no name; name it if it holds values, or remove it")
    if not columns:
        raise RelookError(f"{source}: has no column vectors or vector, and no columns of values")
    return lambda row, where: _numbers([row[place].strip() for place in columns], where, [names[p] for p in columns])


def _listed(text: str, where: str) -> list[str]:
    """The numbers in a bracketed list."""
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")):
        raise RelookError(f"{where}: {_short(stripped)} is not a list in brackets")
    return stripped[1:-1].replace(",", " ").split()


def _numbers(texts: list[str], where: str, names: list[str] | None = None) -> FloatArray:
    try:
        vector = np.array(texts, dtype=np.float64)
    except ValueError:
        place, text = next((place, text) for place, text in enumerate(texts) if not _is_number(text))
        column = f"column {names[place]}" if names else f"value {place + 1}"
        raise RelookError(f"{where}: {column} is {_short(text)}, not a number") from None
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused
        return vector.astype(np.float32)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
