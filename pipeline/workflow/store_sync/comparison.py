"""Comparison of an index with a store, part by part: what the store lacks, what differs, and what only it has.

Below `upload`, which sends the differences, and `verify`, which reports them. Memory does not grow with the number of
images: one part of the index and one chunk of the store are in memory at a time, and ids that only the store has are
found by a table on disk.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.stores import Index
from pipeline.types import StoredVectors, VectorStore

# Rows that are compared at once: 1,024 vectors of 2,048 values take 8 MB on each side.
CHUNK = 1024
# A store may return vectors through decimal text: a difference in the last digit counts as equal.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Compared:
    """Rows of one part of the index, compared with the store.

    Attributes:
        part: the part's name.
        rows: the index's rows, at most `CHUNK`.
        missing: numbers of the rows that the store lacks.
        changed: numbers of the rows whose vector or metadata differ in the store.
    """

    part: str
    rows: StoredVectors
    missing: list[int]
    changed: list[int]

    @property
    def wrong(self) -> list[int]:
        """Numbers of the rows that have to be written, ascending."""
        return sorted([*self.missing, *self.changed])


def compare_parts(
    index: Index, store: VectorStore, skip: Collection[str] = (), new: bool = False
) -> Iterator[Compared]:
    """Every living row of the index, chunk by chunk, compared with the store.

    Args:
        index: one generation.
        store: opened for the index's model.
        skip: names of parts that are left out.
        new: the store is known to be empty: it is not read, every row is missing.
    """
    for part in index.manifest.parts:
        if part.name not in skip:
            table = index.globals_of(part)
            for first in range(0, len(table), CHUNK):
                rows = table.rows(range(first, min(first + CHUNK, len(table))))
                yield (
                    Compared(part.name, rows, list(range(len(rows))), [])
                    if new
                    else compare_rows(part.name, rows, store)
                )


def own_parts(index: Index, names: Collection[str] | None = None) -> Iterator[Compared]:
    """Rows of the index where its own tables are the store: they are read, and there is nothing to compare.

    Args:
        index: one generation.
        names: of the parts to read; None: all.

    Raises:
        RelookError: a part cannot be read.
    """
    for part in index.manifest.parts:
        if names is None or part.name in names:
            yield Compared(part.name, index.globals_of(part), [], [])


def compare_rows(part: str, rows: StoredVectors, store: VectorStore) -> Compared:
    """Some rows of a part, compared with the store."""
    return Compared(part, rows, *_wrong(rows, store.read(rows.ids)))


def extra_ids(index: Index, store: VectorStore) -> Iterator[list[str]]:
    """Ids that the store has and the index lacks, in batches, sorted as the store sorts them."""
    with tempfile.TemporaryDirectory(prefix="relook-") as folder:
        known = sqlite3.connect(Path(folder) / "ids.db")
        known.execute("PRAGMA journal_mode = OFF")
        known.execute("CREATE TABLE ids (id TEXT PRIMARY KEY) WITHOUT ROWID")
        for part in index.manifest.parts:
            # Two parts of a damaged index may name one id.
            known.executemany("INSERT OR IGNORE INTO ids VALUES (?)", ((name,) for name in index.ids_of(part)))
        ids = store.ids()
        while batch := list(islice(ids, CHUNK)):
            known.execute("CREATE TEMP TABLE listed (id TEXT)")
            known.executemany("INSERT INTO listed VALUES (?)", ((name,) for name in batch))
            rows = known.execute("SELECT id FROM listed WHERE id NOT IN ids ORDER BY rowid").fetchall()
            known.execute("DROP TABLE listed")
            if rows:
                yield [name for (name,) in rows]
        known.close()


def _wrong(rows: StoredVectors, found: StoredVectors) -> tuple[list[int], list[int]]:
    """Numbers of the rows that are not in `found`, and of those that are but differ."""
    place = {name: row for row, name in enumerate(found.ids)}
    missing = [row for row, name in enumerate(rows.ids) if name not in place]
    both = [row for row, name in enumerate(rows.ids) if name in place]
    theirs = [place[rows.ids[row]] for row in both]
    # Written so that a NaN differs.
    same = (np.abs(rows.vectors[both] - found.vectors[theirs]) <= TOLERANCE).all(axis=1)
    changed = [
        row
        for row, other, equal in zip(both, theirs, same, strict=True)
        if not equal or rows.metadata[row] != found.metadata[other]
    ]
    return missing, changed
