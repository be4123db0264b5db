"""Records of single images, read by id: a search shows ten hits of a catalog of millions.

Below `directory.py`. Only the rows that are wanted become `ImageRecord`s; the tables of the parts that were read last
stay in memory as columns, since the same parts are hit again and again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.errors import RelookError
from pipeline.stores.index.arrow_rows import arrow_rows
from pipeline.stores.index.image_rows import ImageRows, Numbers
from pipeline.stores.index.tables import read_record_rows, read_record_table, records_of_table
from pipeline.types import ImageRecord

# Parts that stay in memory, and the rows that each has at most: some 300 kB of a part of 1,024 rows.
_KEPT_PARTS = 64
_KEPT_ROWS = 4096


class RecordLookup:
    """Reads image records by id; from any thread.

    Args:
        directory: the index.
        rows: where its images lie.
    """

    def __init__(self, directory: Path, rows: ImageRows) -> None:
        self._directory, self._rows = directory, rows
        self._tables: OrderedDict[int, pa.Table] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, ids: Sequence[str]) -> list[ImageRecord]:
        """Records in the order of `ids`. Raises RelookError that names an id which the index does not have."""
        part_of, rows = self._rows.find(ids)
        unknown = np.flatnonzero(part_of < 0)
        if len(unknown):
            raise RelookError(f"{self._directory}: has no image with the id {ids[unknown[0]]!r}")
        found: list[ImageRecord | None] = [None] * len(ids)
        for number in np.unique(part_of).tolist():
            places = np.flatnonzero(part_of == number)
            path = self._directory / self._rows.parts[number].files["catalog"].path
            records = records_of_table(self._rows_of_part(number, path, rows[places]), path)
            for place, record in zip(places.tolist(), records, strict=True):
                found[place] = record
        return [record for record in found if record is not None]

    def _rows_of_part(self, number: int, path: Path, rows: Numbers) -> pa.Table:
        """These rows of a part's catalog, in this order."""
        if self._rows.parts[number].rows > _KEPT_ROWS:
            return read_record_rows(path, rows)
        with self._lock:
            table = self._tables.pop(number, None)
        if table is None:
            table = read_record_table(path)
        with self._lock:
            self._tables[number] = table
            while len(self._tables) > _KEPT_PARTS:
                self._tables.popitem(last=False)
        return table.take(arrow_rows(rows))
