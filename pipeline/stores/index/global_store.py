"""Global descriptors of single images, read from the index's parts on demand.

For rerankers and training where the vectors are searched elsewhere: a service would have to send them, and holding all
of them in memory is what it was chosen to avoid.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import RelookError
from pipeline.stores.index.directory import Index
from pipeline.stores.index.id_column import IdColumn
from pipeline.types import FloatArray


class GlobalStore:
    """Reads global descriptors by image id; only ids stay in memory.

    Args:
        index: the generation.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._parts = index.manifest.parts
        self._first = np.cumsum([0, *(part.rows - len(part.deleted) for part in self._parts)])

    @property
    def complete(self) -> bool:
        """Whether the files are there; an index whose vectors lie in a service may do without."""
        return all((self._index.directory / part.files["globals"].path).is_file() for part in self._parts)

    def read(self, ids: Sequence[str]) -> FloatArray:
        """[N, D] float32 in the order of `ids`. Raises RelookError that names an id which is not there."""
        rows = self._ids.rows_of(ids)
        if (rows < 0).any():
            raise RelookError(f"{self._index.directory}: holds no id {ids[int(np.argmin(rows))]!r}")
        found = np.empty((len(ids), self._index.card.dimension), np.float32)
        part_of = np.searchsorted(self._first, rows, side="right") - 1

        def fill(number: int) -> None:
            places = np.flatnonzero(part_of == number)
            self._fill(found, places, rows[places] - self._first[number], number)

        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="read") as pool:
            list(pool.map(fill, np.unique(part_of).tolist()))
        return found

    def _fill(self, found: FloatArray, places: npt.NDArray[np.intp], rows: npt.NDArray[np.intp], number: int) -> None:
        """Put some rows of one part into these places of `found`."""
        start = 0
        for _, vectors in self._index.stream_globals(self._parts[number]):
            inside = (rows >= start) & (rows < start + len(vectors))
            found[places[inside]] = vectors[rows[inside] - start]
            start += len(vectors)

    @cached_property
    def _ids(self) -> IdColumn:
        return IdColumn([pa.array(self._index.ids_of(part), pa.string()) for part in self._parts])
