"""Records as columns: what a data set of a million photos takes in memory.

A catalog's `records` where a list of objects would be too large. A record is made when it is needed; in Arrow's
columns a million of them take a small part of the memory of as many Python objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import RelookError
from pipeline.types import ImageRecord

_COLUMNS = ("id", "path", "label", "split")
_ROWS_AT_ONCE = 4096


class ColumnRecords(Sequence[ImageRecord]):
    """An immutable sequence of records without boxes, in columns.

    Args:
        ids: strings, unique.
        paths: strings, as long.
        labels: strings, as long; None: every record has none.
        split: of all records.

    Raises:
        RelookError: there is a duplicate id, or there are none; the message begins with `source`.
    """

    def __init__(self, ids: pa.Array, paths: pa.Array, labels: pa.Array | None, split: str, source: str) -> None:
        if not len(ids):
            raise RelookError(f"{source}: holds no images")
        if len(pc.unique(ids)) != len(ids):
            counts = pc.value_counts(ids)
            duplicate = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
            raise RelookError(f"{source}: duplicate id {duplicate!r}; ids must be unique")
        labels = _constant("", len(ids)) if labels is None else labels.dictionary_encode()
        self._table = pa.table([ids, paths, labels, _constant(split, len(ids))], names=_COLUMNS)
        pa.default_memory_pool().release_unused()  # the text that the columns were read from is kept otherwise

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, row: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[ImageRecord, ...]: ...
    def __getitem__(self, row: int | slice) -> ImageRecord | tuple[ImageRecord, ...]:
        if isinstance(row, slice):
            return tuple(self[number] for number in range(*row.indices(len(self))))
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        return next(_records(self._table.slice(row % len(self), 1)))

    def __iter__(self) -> Iterator[ImageRecord]:
        for start in range(0, len(self), _ROWS_AT_ONCE):
            yield from _records(self._table.slice(start, _ROWS_AT_ONCE))

    @property
    def nbytes(self) -> int:
        """What the columns take in memory."""
        return int(self._table.nbytes)

    @property
    def split(self) -> str:
        """Of all records."""
        return str(self._table["split"][0].as_py())


def refuse_outside(paths: pa.Array, source: str) -> None:
    """Raises RelookError naming `source` and the first of `paths` that is absolute or climbs out of its folder."""
    outside = pc.match_substring_regex(paths, r"^/|(^|/)\.\.(/|$)|\\")
    if pc.any(outside).as_py():
        raise RelookError(f"{source}: the path {paths.filter(outside)[0].as_py()!r} leaves the data set's folder")


def _records(table: pa.Table) -> Iterator[ImageRecord]:
    columns = (table[name].to_pylist() for name in _COLUMNS)
    return (ImageRecord(name, path, label, split) for name, path, label, split in zip(*columns, strict=True))


def _constant(text: str, count: int) -> pa.DictionaryArray:
    """`count` times the same text, one byte each."""
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int8()), count), pa.array([text], pa.string()))
