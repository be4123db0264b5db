"""The global descriptors of one generation by row, read from the parts when they are wanted.

Below `directory.py`, shared by whatever reads vectors without having all of them in memory, and by what loads them. The
sister of `image_rows.py`, which finds the rows of ids.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import RelookError
from pipeline.stores.index.manifest import Part
from pipeline.stores.index.plain_pages import PlainVectors
from pipeline.stores.index.tables import plain_vectors, reading, stream_globals
from pipeline.types import FloatArray

Rows = npt.NDArray[np.intp]

# Rows that are narrowed to float16 at once: of 1,280 values 1.3 MB, which the caches hold.
_NARROWED_ROWS = 256


class VectorRows:
    """N vectors of D values, in the order of the parts; deleted rows have none. From any thread.

    Args:
        directory: the index.
        parts: those that have a table of global descriptors.
        dimension: D.
    """

    def __init__(self, directory: Path, parts: Sequence[Part], dimension: int) -> None:
        self._parts = tuple(parts)
        self._paths = [directory / part.files["globals"].path for part in parts]
        self._first = [0, *accumulate(part.rows - len(part.deleted) for part in parts)]
        self._layouts: dict[int, PlainVectors | None] = {}
        self._living: dict[int, Rows] = {}
        self.shape = (self._first[-1], dimension)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: npt.NDArray[np.integer], /) -> FloatArray:
        """The vectors [n, D] float32 of some rows, in any order. Raises RelookError that names a damaged file."""
        wanted, places = np.unique(rows, return_inverse=True)
        found = np.empty((len(wanted), self.shape[1]), np.float32)
        runs = list(self._runs(wanted))
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="read") as pool:
            list(pool.map(lambda run: self._read_part(run[0], run[2], found[run[1]]), runs))
        return found[places]

    def read(self, rows: Rows, out: FloatArray) -> None:
        """Read some rows, ascending, into `out` [n, D] float32, in this thread. Raises RelookError as above."""
        for number, inside, own in self._runs(rows):
            self._read_part(number, own, out[inside])

    def read_all(self, out: npt.NDArray[np.floating]) -> None:
        """Read every row into `out` [N, D], float32 or float16, parts side by side. Raises RelookError as above."""

        def fill(number: int) -> None:
            own = out[self._first[number] : self._first[number + 1]]
            self._read_part(number, np.arange(len(own)), own)

        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="read") as pool:
            list(pool.map(fill, range(len(self._parts))))

    def read_singly(self) -> bool:
        """Whether single rows can be read of every file, since it has the vectors as they are (no CSV, for one).

        Looking into the files before a pass takes less than doing it between the blocks of that.
        """
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="read") as pool:
            return all(layout is not None for layout in pool.map(self._layout, range(len(self._parts))))

    def _runs(self, rows: Rows) -> list[tuple[int, slice, Rows]]:
        """Of ascending rows the numbers of their parts, which of `rows` each one has, and their rows in it."""
        runs, start = [], 0
        while start < len(rows):
            number = bisect_right(self._first, rows[start]) - 1
            end = int(np.searchsorted(rows, self._first[number + 1]))
            runs.append((number, slice(start, end), rows[start:end] - self._first[number]))
            start = end
        return runs

    def _read_part(self, number: int, rows: Rows, out: npt.NDArray[np.floating]) -> None:
        """Read some rows of a part, ascending among those that are not deleted."""
        part, layout = self._parts[number], self._layout(number)
        if part.deleted:
            if number not in self._living:
                self._living[number] = np.setdiff1d(np.arange(part.rows), part.deleted)
            rows = self._living[number][rows]
        if layout is None:
            self._stream_part(number, rows, out)
            return
        with reading(self._paths[number]):
            if out.dtype == np.float32:
                layout.read(rows, out)
                return
            buffer = np.empty((_NARROWED_ROWS, self.shape[1]), np.float32)
            for first in range(0, len(rows), _NARROWED_ROWS):
                some = rows[first : first + _NARROWED_ROWS]
                layout.read(some, buffer[: len(some)])
                out[first : first + len(some)] = buffer[: len(some)]

    def _stream_part(self, number: int, rows: Rows, out: npt.NDArray[np.floating]) -> None:
        """The same where the file has to be read from its beginning on."""
        start = 0
        for _, vectors in stream_globals(self._paths[number], self.shape[1]):
            inside = slice(*np.searchsorted(rows, [start, start + len(vectors)]))
            out[inside] = vectors[rows[inside] - start]
            start += len(vectors)
        self._check_rows(number, start)

    def _layout(self, number: int) -> PlainVectors | None:
        """Where the vectors of a part lie in its file; None where it has to be read from its beginning on."""
        if number not in self._layouts:
            layout = plain_vectors(self._paths[number], self.shape[1])
            if layout is not None:
                self._check_rows(number, layout.rows)
            self._layouts[number] = layout
        return self._layouts[number]

    def _check_rows(self, number: int, rows: int) -> None:
        if rows != self._parts[number].rows:
            expected = self._parts[number].rows
            raise RelookError(f"{self._paths[number]}: has {rows} vectors instead of {expected}; run: relook verify")
