"""An index beside a store, part by part: what the store lacks, what differs, and what it has too much.

Below `upload`, which sends what is found here, and `verify`, which reports it. Memory does not grow with the number of
images: of the index one part is held at a time, of the store what was asked for, and ids that only the store has are
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

from pipeline.errors import RelookError
from pipeline.stores import Index
from pipeline.types import StoredVectors, VectorStore

# Rows that are compared at once: 1,024 vectors of 2,048 values take 8 MB on each side.
CHUNK = 1024
# A store may hand vectors back through decimal text; a difference of one unit in the last place is none.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Compared:
    """Rows of one part of the index beside what the store has of them.

    Attributes:
        part: the part's name.
        rows: what the index holds, at most `CHUNK` rows.
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


def compare_parts(index: Index, store: VectorStore, skip: Collection[str] = ()) -> Iterator[Compared]:
    """Every living row of the index, chunk by chunk, beside the store.

    Args:
        index: one generation.
        store: opened for the index's model.
        skip: names of parts that are not looked at.
    """
    for part in index.manifest.parts:
        if part.name not in skip:
            table = index.globals_of(part)
            for first in range(0, len(table), CHUNK):
                yield compare_rows(part.name, table.rows(range(first, min(first + CHUNK, len(table)))), store)


def own_parts(index: Index, names: Collection[str] | None = None) -> Iterator[Compared]:
    """Rows of the index where its own tables are the store: they are read, and named as the catalog names them.

    Args:
        index: one generation.
        names: of the parts to read; None: all.

    Raises:
        RelookError: a part cannot be read, or its globals are of other images than its catalog.
    """
    for part in index.manifest.parts:
        if names is None or part.name in names:
            rows = index.globals_of(part)
            if "catalog" in part.files and list(rows.ids) != index.ids_of(part, "catalog"):
                path = index.directory / part.files["globals"].path
                raise RelookError(
                    f"{path}: holds other ids than {part.files['catalog'].path}; extract into a new --index"
                )
            yield Compared(part.name, rows, [], [])


def compare_rows(part: str, rows: StoredVectors, store: VectorStore) -> Compared:
    """Some rows of a part beside the store."""
    return Compared(part, rows, *_wrong(rows, store.read(rows.ids)))


def extra_ids(index: Index, store: VectorStore) -> Iterator[list[str]]:
    """Ids that the store has and the index lacks, in batches, sorted as the store sorts them."""
    with tempfile.TemporaryDirectory(prefix="relook-") as folder:
        known = sqlite3.connect(Path(folder) / "ids.db")
        known.execute("PRAGMA journal_mode = OFF")
        known.execute("CREATE TABLE ids (id TEXT PRIMARY KEY) WITHOUT ROWID")
        for part in index.manifest.parts:
            # A set is all that is asked for: an id that two parts of a damaged index name must not end the listing.
            known.executemany("INSERT OR IGNORE INTO ids VALUES (?)", ((name,) for name in index.ids_of(part)))
        ids = store.ids()
        while batch := list(islice(ids, CHUNK)):
            known.execute("CREATE TEMP TABLE asked (id TEXT)")
            known.executemany("INSERT INTO asked VALUES (?)", ((name,) for name in batch))
            rows = known.execute("SELECT id FROM asked WHERE id NOT IN ids ORDER BY rowid").fetchall()
            known.execute("DROP TABLE asked")
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
