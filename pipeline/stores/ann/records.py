"""Ids, metadata and vectors of the embedded approximate store: one SQLite file, from which all else can be made again.

Below `ann_store.py`. Each change is one transaction on a write-ahead log: a process killed at any instant leaves the
last one whole, and readers see one state or the next. A vector lies in a numbered row; the inverted lists
(`ann_lists.py`) know it by that number, which is never given to another vector while a list holds it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import LockedError, RelookError
from pipeline.stores.ann.lists import ListsState
from pipeline.types import FloatArray

Rows = npt.NDArray[np.int64]

FORMAT = 1

# Bytes of a page: 15 vectors of 512 values, or three of 2,048.
_PAGE = 32768
# Bytes that are read as memory, the most that the library does.
_MAPPED = 2**31 - 1
# Rows read at once, and values bound to one statement.
_CHUNK = 4096
_BOUND = 900
# Seconds that a reader waits for the moment in which a writer folds the log.
_PATIENCE = 10.0

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS record (
        row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, metadata TEXT NOT NULL, vector BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS attribute (
        key TEXT, value TEXT, row INTEGER, PRIMARY KEY (key, value, row)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS dead (row INTEGER PRIMARY KEY);
"""


class Records:
    """The database of one model's vectors.

    Args:
        path: of the file. While it is not there, the store is empty; the first change makes it.
        fingerprint: of the model.
        dimension: D.

    Raises:
        RelookError: the file is damaged, of another format, or of another model.
    """

    def __init__(self, path: Path, fingerprint: str, dimension: int) -> None:
        self.path, self._fingerprint, self.dimension = path, fingerprint, dimension
        self._lock = threading.RLock()
        self._seen = -1
        self._inside = False
        with _speaking(self.path):
            self._open()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One state of the database for all that is read inside; other threads wait."""
        with self._lock, _speaking(self.path):
            if self._inside:
                yield
                return
            if not self._filed and self.path.exists():
                self._open()
            with self._transaction("BEGIN"):
                yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What is changed inside is changed together, or not at all."""
        with self._lock, _speaking(self.path):
            if not self._filed:
                self._make()
            self._seen = -1
            with self._transaction("BEGIN IMMEDIATE"):
                yield

    def changed(self) -> bool:
        """Whether this or another connection changed anything since this was asked last; inside `reading`."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        before, self._seen = self._seen, version
        return bool(before != version)

    def count(self) -> int:
        """How many vectors there are. Lists know how many they hold: millions of records are not counted each time."""
        with self.reading():
            state = self.state()
            count = "SELECT (SELECT COUNT(*) FROM record WHERE row > ?) - (SELECT COUNT(*) FROM dead)"
            (change,) = self._db.execute(count, (state.covered,)).fetchone()
        return state.held + int(change)

    def state(self) -> ListsState:
        """The inverted lists that belong to what is here."""
        with self.reading():
            found = self._db.execute("SELECT value FROM state WHERE key = 'lists'").fetchone()
        try:
            return ListsState.model_validate_json(found[0]) if found else ListsState()
        except ValueError as error:
            raise _damaged(self.path, error) from None

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
            raise _damaged(self.path, f"its vectors do not have {self.dimension} values each")
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

    def _open(self) -> None:
        """Connect to the file, or to an empty database in memory where there is none, or none was finished."""
        self._seen = -1
        self._filed = self.path.exists()
        if self._filed:
            self._db = self._connect(str(self.path))
            self._filed = bool(self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'dead'").fetchone())
            if self._filed:
                self._check()
        if not self._filed:
            self._db = self._connect(":memory:")
            self._db.executescript(_SCHEMA)

    def _make(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._db = self._connect(str(self.path))
        self._db.execute(f"PRAGMA page_size = {_PAGE}")
        self._db.execute("PRAGMA journal_mode = WAL")
        with self._transaction("BEGIN IMMEDIATE"):
            for statement in _SCHEMA.strip().split(";\n"):
                self._db.execute(statement)
            about = {"format": str(FORMAT), "fingerprint": self._fingerprint, "dimension": str(self.dimension)}
            self._db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", about.items())
        self._filed = True

    def _connect(self, name: str) -> sqlite3.Connection:
        db = sqlite3.connect(name, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last changes, and never the rest
        db.execute(f"PRAGMA mmap_size = {_MAPPED}")
        return db

    def _check(self) -> None:
        about = dict(self._db.execute("SELECT key, value FROM state WHERE key <> 'lists'"))
        if about.get("format") != str(FORMAT):
            raise RelookError(f"{self.path}: format {about.get('format')}; this relook reads format {FORMAT}")
        if (about.get("fingerprint"), about.get("dimension")) != (self._fingerprint, str(self.dimension)):
            raise RelookError(
                f"{self.path}: holds {about.get('dimension')} values a vector of model {about.get('fingerprint')}, "
                f"not {self.dimension} of {self._fingerprint}"
            )

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._db.execute(begin)
        self._inside = True
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        finally:
            self._inside = False


def count_in(path: Path) -> int:
    """How many vectors a database holds, of whatever model."""
    with _speaking(path), closing(sqlite3.connect(path, timeout=_PATIENCE)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'record'").fetchone():
            return 0
        return int(db.execute("SELECT COUNT(*) FROM record").fetchone()[0])


@contextmanager
def _speaking(path: Path) -> Iterator[None]:
    """What the library says ends in one line that names the file."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise RelookError(f"{path}: cannot be written ({error.object!r} is not Unicode)") from None
    except OSError as error:
        raise RelookError(f"{path}: cannot be written ({error.strerror or error})") from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise LockedError(f"{path}: another process is writing to it") from None
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _damaged(path, error) from None
        raise RelookError(f"{path}: {error}") from None


def _damaged(path: Path, error: object) -> RelookError:
    reason = " ".join(str(error).split())
    return RelookError(f"{path}: damaged ({reason}); remove {path.parent} and run: relook upload")


def _column(cursor: Iterable[tuple[int]]) -> Rows:
    return np.fromiter((row for (row,) in cursor), np.int64)
