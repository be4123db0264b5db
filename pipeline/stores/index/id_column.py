"""The ids of many images in memory: a column of text instead of a Python object per id.

Below the table store and `image_rows.py`. A million ids of 30 characters take 34 MB here, and 12 MB more once they are
looked up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.stores.index.arrow_rows import arrow_rows, arrow_texts
from pipeline.stores.once import once_property

_ROWS_AT_ONCE = 65536
# A look-up goes through the chunks of the column one by one, and a chunk holds less than 2 GB.
_CHUNK_ROWS = 1 << 20
# Up to here sorting some ids takes less than sorting all.
_FEW_ROWS = 1 << 14
# Look-ups that go through the column: all of them together take less than hashing every id does.
_SCANS = 16


class IdColumn:
    """N ids, row by row; all of them differ."""

    def __init__(self, chunks: Sequence[pa.Array]) -> None:
        self._column = pa.chunked_array(list(_joined(chunks)), pa.string())
        self._scans = 0

    def __len__(self) -> int:
        return len(self._column)

    def at(self, rows: npt.NDArray[np.integer]) -> list[str]:
        """The ids of some rows."""
        names: list[str] = self._column.take(arrow_rows(rows)).to_pylist()
        return names

    def rows_of(self, names: Sequence[str]) -> npt.NDArray[np.intp]:
        """The row of each of these ids, -1 for one that is not there."""
        if self._scans < _SCANS:
            self._scans += 1
            return self._found_by_scan(names)
        hashes, order = self._hashed
        wanted = np.fromiter(map(hash, names), np.int64, len(names))
        place = np.searchsorted(hashes, wanted)
        found = np.full(len(names), -1, np.intp)
        left = np.flatnonzero(place < len(hashes))
        while len(left):  # once, unless two ids have one hash
            left = left[hashes[place[left]] == wanted[left]]
            rows = order[place[left]]
            same = np.fromiter(
                (name == names[number] for name, number in zip(self.at(rows), left, strict=True)), np.bool_, len(left)
            )
            found[left[same]] = rows[same]
            left = left[~same]
            place[left] += 1
            left = left[place[left] < len(hashes)]
        return found

    def _found_by_scan(self, names: Sequence[str]) -> npt.NDArray[np.intp]:
        """The same without a table of all ids, which takes as long as 25 such searches of a column."""
        unique = {name.encode("utf-8", "surrogatepass"): number for number, name in enumerate(dict.fromkeys(names))}
        wanted = arrow_texts(list(unique))
        row_of = np.full(len(unique), -1, np.intp)
        start = 0
        for chunk in self._column.chunks:
            found = pc.index_in(chunk.cast(pa.binary()), value_set=wanted)
            rows = _numbers(pc.indices_nonzero(found.is_valid()), np.uint64).astype(np.intp)
            row_of[_numbers(found.drop_null(), np.int32)] = rows + start
            start += len(chunk)
        places = (unique[name.encode("utf-8", "surrogatepass")] for name in names)
        return row_of[np.fromiter(places, np.intp, len(names))]

    @once_property
    def rank(self) -> npt.NDArray[np.int32]:
        """Where each row's id stands when ids are sorted by code point (which is the order of their UTF-8 bytes)."""
        found = pc.sort_indices(self._column)
        order = _numbers(found, np.uint64)
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        return rank

    def sorted(self) -> Iterator[str]:
        """All ids by code point."""
        order = np.argsort(self.rank)
        for start in range(0, len(order), _ROWS_AT_ONCE):
            yield from self.at(order[start : start + _ROWS_AT_ONCE])

    @once_property
    def _hashed(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Hashes ascending, and the row that each belongs to."""
        hashes = np.empty(len(self), np.int64)
        start = 0
        for batch in self._column.chunks:
            hashes[start : start + len(batch)] = np.fromiter(map(hash, batch.to_pylist()), np.int64, len(batch))
            start += len(batch)
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        return hashes[order], order


class RankedIds(Protocol):
    """Ids that can be compared by row: an `IdColumn`, or one that is read when it is wanted."""

    def at(self, rows: npt.NDArray[np.intp]) -> list[str]:
        """See `IdColumn.at`."""

    @property
    def rank(self) -> npt.NDArray[np.int32]:
        """See `IdColumn.rank`."""


class IdRank:
    """Where the ids of rows stand by code point: of few rows only their own ids are compared, not all."""

    def __init__(self, ids: RankedIds) -> None:
        self._ids = ids

    def __getitem__(self, rows: npt.NDArray[np.intp], /) -> npt.NDArray[np.integer]:
        if len(rows) > _FEW_ROWS:
            return self._ids.rank[rows]
        names = self._ids.at(rows)
        rank = np.empty(len(rows), np.int32)
        rank[sorted(range(len(rows)), key=names.__getitem__)] = np.arange(len(rows), dtype=np.int32)
        return rank


def _numbers(column: pa.Array, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A column without nulls, as NumPy reads it. `to_numpy` would do, but it imports pandas."""
    width = np.dtype(dtype).itemsize
    return np.frombuffer(column.buffers()[1], dtype, len(column), width * column.offset)


def _joined(chunks: Sequence[pa.Array]) -> Iterator[pa.Array]:
    """The same rows in few chunks."""
    some: list[pa.Array] = []
    rows = 0
    for chunk in chunks:
        if some and rows + len(chunk) > _CHUNK_ROWS:
            yield pa.concat_arrays(some)
            some, rows = [], 0
        some.append(chunk)
        rows += len(chunk)
    if some:
        yield pa.concat_arrays(some)
