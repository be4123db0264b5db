"""Where each image lies: the part and the row of every id of a generation.

Below `directory.py`, shared by all that is read by id: records, local descriptors, feature maps. Ids are columns of
text, 34 MB for a million; a dictionary of tuples would take ten times as much.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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

Numbers = npt.NDArray[np.intp]


class ImageRows:
    """The places of the images of one generation; deleted rows have none.

    Args:
        parts: those that have a catalog.
        ids: theirs, see `read_ids_of_parts`.
    """

    def __init__(self, parts: Sequence[Part], ids: IdColumn) -> None:
        self.parts, self._ids = tuple(parts), ids
        self._first = np.cumsum([0, *(part.rows - len(part.deleted) for part in parts)])
        self._has_deleted = np.array([bool(part.deleted) for part in parts], np.bool_)

    def __len__(self) -> int:
        return len(self._ids)

    def find(self, ids: Sequence[str]) -> tuple[Numbers, Numbers]:
        """For each id the number of its part in `parts` and its row in that part's files; -1 and -1 where unknown."""
        places = self._ids.rows_of(ids)
        known = places >= 0
        part_of = np.where(known, np.searchsorted(self._first, places, side="right") - 1, -1)
        rows = np.where(known, places - self._first[part_of], -1)
        found = part_of[known]
        for number in np.unique(found[self._has_deleted[found]]).tolist():
            living = np.setdiff1d(np.arange(self.parts[number].rows), self.parts[number].deleted)
            mine = part_of == number
            rows[mine] = living[rows[mine]]
        return part_of, rows


def read_ids_of_parts(directory: Path, parts: Sequence[Part], kind: Literal["catalog", "globals"]) -> IdColumn:
    """The ids of all parts, in their order, as one of their tables has them; deleted rows left out.

    Raises:
        RelookError: a table is missing, damaged, or has another number of rows than its part.
    """

    def living_ids(part: Part) -> list[pa.Array]:
        path = directory / part.files[kind].path
        column = read_id_column(path)
        if len(column) != part.rows:
            raise RelookError(f"{path}: has {len(column)} rows instead of {part.rows}; run: relook verify")
        if part.deleted:
            column = column.take(arrow_rows(np.setdiff1d(np.arange(part.rows), part.deleted)))
        chunks: list[pa.Array] = column.chunks
        return chunks

    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="read") as pool:
        found = IdColumn([chunk for chunks in pool.map(living_ids, parts) for chunk in chunks])
    pa.default_memory_pool().release_unused()
    return found
