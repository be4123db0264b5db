"""Ids, metadata and vectors of the local ann store, and which inverted lists belong to them.

Tables of one SQLite file (`sqlite_file.py`), from which all else can be made again. A vector lies in a numbered row;
the inverted lists (`lists.py`) know it by that number, which is never given to another vector while a list holds it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.stores.ann.lists import ListsState
from pipeline.stores.ann.sqlite_file import SqliteFile, damaged_database
from pipeline.types import FloatArray

Rows = npt.NDArray[np.int64]

# Rows read at once, and values bound to one statement.
_CHUNK = 4096
_BOUND = 900


class RecordDatabase(SqliteFile):
    """The records of one model; see `SqliteFile` for its arguments and errors."""

    def count(self) -> int:
        """How many vectors there are. Lists know how many they hold: millions of records are not counted each time."""
        with self.reading():
            state = self.state()
            count = "SELECT (SELECT COUNT(*) FROM record WHERE row > ?) - (SELECT COUNT(*) FROM dead)"
            (change,) = self._db.execute(count, (state.covered,)).fetchone()
        return state.listed + int(change)

    def state(self) -> ListsState:
        """The inverted lists that belong to what is here."""
        with self.reading():
            found = self._db.execute("SELECT value FROM state WHERE key = 'lists'").fetchone()
        try:
            return ListsState.model_validate_json(found[0]) if found else ListsState()
        except ValueError as error:
            raise damaged_database(self.path, error) from None

    def put(self, ids: Sequence[str], vectors: FloatArray, metadata: Sequence[Mapping[str, str]]) -> None:
        """Write N vectors with their metadata; records of the same ids are replaced."""
        with self.writing():
            self._forget(ids)
            (last,) = self._db.execute("SELECT MAX(row) FROM record").fetchone()
            rows = range(max(last or 0, self.state().covered) + 1, 2**63)
            values = np.ascontiguousarray(vectors, dtype="<f4")
            self._db.executemany(
                "INSERT INTO record VALUES (?, ?, ?, ?)",
                (
                    (row, name, json.dumps(dict(entry), ensure_ascii=False, sort_keys=True), vector.tobytes())
                    for row, name, entry, vector in zip(rows, ids, metadata, values, strict=False)
                ),
            )
            self._db.executemany(
                "INSERT INTO attribute VALUES (?, ?, ?)",
                ((key, value, row) for row, entry in zip(rows, metadata, strict=False) for key, value in entry.items()),
            )

    def remove(self, ids: Sequence[str]) -> int:
        """Forget these ids; returns how many there were."""
        with self.writing():
            return self._forget(ids)

    def replace_lists(self, state: ListsState) -> None:
        """From here on these lists belong to the records. What died is remembered where a list still holds it."""
        with self.writing():
            kept = [segment for segment in self.state().segments if segment in state.segments]
            holds = "".join(f" AND row NOT BETWEEN {segment.first} AND {segment.last}" for segment in kept)
            self._db.execute(f"DELETE FROM dead WHERE TRUE{holds}")
            self._db.execute("INSERT OR REPLACE INTO state VALUES ('lists', ?)", (state.model_dump_json(),))

    def named(self, ids: Iterable[str]) -> dict[str, tuple[str, bytes]]:
        """Metadata as JSON and the vector's bytes, of those of `ids` that are here."""
        with self.reading():
            return {name: (text, vector) for name, text, vector in self._where("id", "id, metadata, vector", ids)}

    def numbered(self, rows: Rows) -> tuple[Rows, list[str], FloatArray]:
        """Rows, ids and vectors of those of `rows` that are here, sorted by id."""
        with self.reading():
            found = sorted(self._where("row", "id, row, vector", rows.tolist()))
        numbers = np.fromiter((row for _, row, _ in found), np.int64, len(found))
        return numbers, [name for name, _, _ in found], self.matrix([vector for _, _, vector in found])

    def stream(self, first: int = 0, last: int = 2**62) -> Iterator[tuple[Rows, FloatArray]]:
        """Rows and vectors with `first` <= row <= `last`, some thousand at a time, in order."""
        with self.reading():
            cursor = self._db.execute(
                "SELECT row, vector FROM record WHERE row BETWEEN ? AND ? ORDER BY row", (int(first), int(last))
            )
            while chunk := cursor.fetchmany(_CHUNK):
                numbers = np.fromiter((row for row, _ in chunk), np.int64, len(chunk))
                yield numbers, self.matrix([vector for _, vector in chunk])

    def vectors(self, rows: Rows) -> FloatArray:
        """[n, D], of ascending `rows` that are here."""
        parts = [self.matrix([])]
        parts += [vectors[np.isin(numbers, rows)] for numbers, vectors in self.stream(rows[0], rows[-1])]
        return np.concatenate(parts)

    def rows(self, first: int = 0) -> Rows:
        """All rows from `first` on, ascending."""
        with self.reading():
            return _column(self._db.execute("SELECT row FROM record WHERE row >= ? ORDER BY row", (int(first),)))

    def dead(self) -> Rows:
        """Rows that lists still hold and that are no longer here, ascending."""
        with self.reading():
            return _column(self._db.execute("SELECT row FROM dead ORDER BY row"))

    def matching(self, where: Mapping[str, Sequence[str]]) -> Rows:
        """Rows whose metadata has one of the given values of every key, ascending; a key that is missing is ""."""
        with self.reading():
            found = [self._having(key, values) for key, values in where.items()]
            rows = self.rows() if not found else found[0]
        for others in found[1:]:
            rows = np.intersect1d(rows, others, assume_unique=True)
        return rows

    def ids(self) -> Iterator[str]:
        """All ids, sorted by code point, page by page: what is written meanwhile may be among them or not."""
        after: tuple[str, ...] = ()
        while True:
            condition = "WHERE id > ?" if after else ""
            with self.reading():
                page = self._db.execute(f"SELECT id FROM record {condition} ORDER BY id LIMIT {_CHUNK}", after)
                names = [name for (name,) in page]
            yield from names
            if len(names) < _CHUNK:
                return
            after = (names[-1],)

    def matrix(self, vectors: Sequence[bytes]) -> FloatArray:
        """[N, D] float32 of N stored vectors. Raises RelookError when one is not of D values."""
        values = np.frombuffer(b"".join(vectors), "<f4")
        if values.size != len(vectors) * self.dimension:
            raise damaged_database(self.path, f"its vectors do not have {self.dimension} values each")
        return values.reshape(len(vectors), self.dimension)

    def _forget(self, ids: Iterable[str]) -> int:
        found = list(self._where("id", "row, metadata", ids))
        covered = self.state().covered
        rows = [(row,) for row, _ in found]
        entries = ((key, value, row) for row, text in found for key, value in json.loads(text).items())
        self._db.executemany("DELETE FROM attribute WHERE key = ? AND value = ? AND row = ?", entries)
        self._db.executemany("DELETE FROM record WHERE row = ?", rows)
        self._db.executemany("INSERT INTO dead VALUES (?)", [row for row in rows if row[0] <= covered])
        return len(found)

    def _where(self, column: str, columns: str, values: Iterable[str] | Iterable[int]) -> Iterator[Any]:
        unique = list(dict.fromkeys(values))
        for start in range(0, len(unique), _BOUND):
            some = unique[start : start + _BOUND]
            marks = ",".join("?" * len(some))
            yield from self._db.execute(f"SELECT {columns} FROM record WHERE {column} IN ({marks})", some)

    def _having(self, key: str, values: Sequence[str]) -> Rows:
        rows = [
            _column(self._db.execute("SELECT row FROM attribute WHERE key = ? AND value = ?", (key, value)))
            for value in dict.fromkeys(values)
        ]
        if "" in values:
            there = _column(self._db.execute("SELECT row FROM attribute WHERE key = ?", (key,)))
            rows.append(np.setdiff1d(self.rows(), there))
        return np.sort(np.concatenate([np.zeros(0, np.int64), *rows]))


def _column(cursor: Iterable[tuple[int]]) -> Rows:
    return np.fromiter((row for (row,) in cursor), np.int64)
