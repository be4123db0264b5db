"""The ids of a generation's rows, read from the parts when they are wanted.

Below `directory.py`: what the table store and `image_rows.py` look up. The hits of one query lie in some of the parts,
so one search opens the tables of those alone; whatever is not found there, or comes from elsewhere, reads all of them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import RelookError
from pipeline.stores.index.arrow_rows import arrow_rows
from pipeline.stores.index.id_column import IdColumn
from pipeline.stores.index.manifest import Part
from pipeline.stores.index.tables import read_id_column
from pipeline.stores.once import once_property

Rows = npt.NDArray[np.intp]


class PartIds:
    """N ids, row by row in the order of the parts; deleted rows have none. From any thread.

    Every call raises RelookError where a table that it reads is missing, damaged, or has another number of rows than
    its part.

    Args:
        directory: the index.
        parts: those that have a table of this kind.
        kind: of the table whose ids are read.
    """

    def __init__(self, directory: Path, parts: Sequence[Part], kind: Literal["catalog", "globals"]) -> None:
        self._directory, self._parts, self._kind = directory, tuple(parts), kind
        self._first = np.array([0, *accumulate(part.rows - len(part.deleted) for part in parts)], np.intp)
        self._some: _SomeIds | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._first[-1])

    def at(self, rows: Rows) -> list[str]:
        """The ids of some rows. The first call reads the parts that they lie in, one that needs others reads all."""
        if not len(rows):
            return []
        some = self._some_with(rows)
        return self.all.at(rows) if some is None else some.at(rows)

    def rows_of(self, names: Sequence[str]) -> Rows:
        """The row of each of these ids, -1 for one that is not there."""
        some = self._some
        if some is not None:
            rows = some.rows_of(names)
            if (rows >= 0).all():  # an id has one row in the whole index
                return rows
        return self.all.rows_of(names)

    @property
    def rank(self) -> npt.NDArray[np.int32]:
        """See `IdColumn.rank`."""
        return self.all.rank

    def sorted(self) -> Iterator[str]:
        """All ids by code point."""
        return self.all.sorted()

    @once_property
    def all(self) -> IdColumn:
        """The ids of all parts in memory."""
        found = IdColumn([chunk for chunks in self._read(range(len(self._parts))) for chunk in chunks])
        self._some = None
        pa.default_memory_pool().release_unused()
        return found

    def _some_with(self, rows: Rows) -> _SomeIds | None:
        """The ids of the parts that these rows lie in, where they are few parts; None: all ids are read."""
        if "all" in self.__dict__:
            return None
        numbers = np.unique(np.searchsorted(self._first, rows, side="right") - 1)
        with self._lock:
            some = self._some
            if some is None and 2 * len(numbers) <= len(self._parts):
                chunks = [chunk for chunks in self._read(numbers.tolist()) for chunk in chunks]
                self._some = some = _SomeIds(IdColumn(chunks), self._first[numbers], self._first[numbers + 1])
        return some if some is not None and some.has(self._first[numbers]) else None

    def _read(self, numbers: Sequence[int]) -> list[list[pa.Array]]:
        """The ids of some parts, which are read side by side."""
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="read") as pool:
            return list(pool.map(self._living, numbers))

    def _living(self, number: int) -> list[pa.Array]:
        part = self._parts[number]
        path = self._directory / part.files[self._kind].path
        column = read_id_column(path)
        if len(column) != part.rows:
            raise RelookError(f"{path}: has {len(column)} rows instead of {part.rows}; run: relook verify")
        if part.deleted:
            column = column.take(arrow_rows(np.setdiff1d(np.arange(part.rows), part.deleted)))
        chunks: list[pa.Array] = column.chunks
        return chunks


class _SomeIds:
    """The ids of some parts, by their rows in the whole index.

    Args:
        column: the ids.
        first, last: where the rows of each part begin and end.
    """

    def __init__(self, column: IdColumn, first: Rows, last: Rows) -> None:
        self._column, self._begins = column, first
        # From a row here to the row in the index, of each part.
        self._shift = first - np.cumsum([0, *(last - first)[:-1]])

    def has(self, first: Rows) -> bool:
        """Whether the parts that begin at these rows are among them."""
        return bool(np.isin(first, self._begins).all())

    def at(self, rows: Rows) -> list[str]:
        """The ids of some rows of these parts."""
        return self._column.at(rows - self._shift[np.searchsorted(self._begins, rows, side="right") - 1])

    def rows_of(self, names: Sequence[str]) -> Rows:
        """The row of each of these ids, -1 for one that is not in these parts."""
        here = self._column.rows_of(names)
        part = np.searchsorted(self._begins - self._shift, here, side="right") - 1
        return np.where(here >= 0, here + self._shift[part], -1)
