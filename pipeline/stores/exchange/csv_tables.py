"""Vectors in CSVs that other programs wrote: a bracketed list in one cell, or one column a value.

One of the foreign formats. The first has columns `vecid`, `vectors` and, where known, `labels`; a list may have commas
or only spaces between its numbers, and line breaks in it, as numpy prints one. The second has an id, perhaps a label,
and every other column is a value.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pipeline.errors import RelookError
from pipeline.stores.exchange.base import ExternalImage, ExternalSource, Options
from pipeline.types import FloatArray

_IDS = ("vecid", "id")
_VECTORS = ("vectors", "vector", "values")
_LABELS = ("labels", "label")
_MAX_CELL = 16 << 20


def open_csv(source: Path, options: Options) -> ExternalSource:
    """Open such a file; which of the two it is its header tells.

    Raises:
        RelookError: it cannot be read, or has no column of ids or of values; later, a row is bad: the message names its
            number (from 1, the header not counted) and the value.
    """
    return ExternalSource("csv", None, _images(source))


def _images(source: Path) -> Iterator[ExternalImage]:
    csv.field_size_limit(_MAX_CELL)
    try:
        with source.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            yield from _rows(source, header, reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RelookError(f"{source}: cannot be read as CSV ({error})") from None


def _rows(source: Path, header: list[str], reader: Iterator[list[str]]) -> Iterator[ExternalImage]:
    names = [name.lower() for name in header]
    key, label = _column(names, _IDS), _column(names, _LABELS)
    if key is None:
        raise RelookError(f"{source}: has no column {' or '.join(_IDS)}; its columns are: {', '.join(header[:8])}")
    values = _values(source, names, {key, label})
    seen: dict[str, int] = {}
    first = 0
    for number, row in enumerate((row for row in reader if row), start=1):
        where = f"{source}, row {number}"
        if len(row) != len(header):
            raise RelookError(f"{where}: {len(row)} cells, the header has {len(header)}")
        name = row[key].strip()
        if not name:
            raise RelookError(f"{where}: its id is empty")
        where = f"{where} ({name!r})"
        if name in seen:
            raise RelookError(f"{where}: the id stands in row {seen[name]} already")
        seen[name] = number
        vector = values(row, where)
        first = first or len(vector)
        if len(vector) != first:
            raise RelookError(f"{where}: {len(vector)} values, row 1 has {first}")
        yield ExternalImage(name, where, "" if label is None else row[label].strip(), vector)


def _values(source: Path, names: list[str], others: set[int | None]) -> Callable[[list[str], str], FloatArray]:
    """What makes a vector of a row."""
    cell = _column(names, _VECTORS)
    if cell is not None:
        return lambda row, where: _numbers(_listed(row[cell], where), where)
    columns = [place for place in range(len(names)) if place not in others]
    if any(not names[place] for place in columns):  # such as the row numbers that pandas writes
        unnamed = next(place for place in columns if not names[place])
        raise RelookError(
            f"{source}: column {unnamed + 1} has no name; a column of values has one, others are left out"
        )
    if not columns:
        raise RelookError(f"{source}: has no column {' or '.join(_VECTORS)}, and no columns of values")
    return lambda row, where: _numbers([row[place].strip() for place in columns], where, [names[p] for p in columns])


def _listed(text: str, where: str) -> list[str]:
    """The numbers in a bracketed list."""
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")):
        raise RelookError(f"{where}: {_short(stripped)} is no list in brackets")
    return stripped[1:-1].replace(",", " ").split()


def _numbers(texts: list[str], where: str, names: list[str] | None = None) -> FloatArray:
    try:
        vector = np.array(texts, dtype=np.float64)
    except ValueError:
        place, text = next((place, text) for place, text in enumerate(texts) if not _is_number(text))
        column = f"column {names[place]}" if names else f"value {place + 1}"
        raise RelookError(f"{where}: {column} is {_short(text)}, no number") from None
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused
        return vector.astype(np.float32)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _column(names: list[str], wanted: tuple[str, ...]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
