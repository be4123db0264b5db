"""The SQLite file of the local ann store: opened, checked, read and written in transactions, also on a read-only mount.

Below `records.py`, which knows what the tables mean. Each change is one transaction on a write-ahead log: a process
killed at any instant leaves the last one whole, and readers see one state or the next. The file is not mapped into
memory: a file that is cut under an open reader is an error, where a mapped one would end the process.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pipeline.errors import LockedError, RelookError

FORMAT = 1

# Bytes of a page: 15 vectors of 512 values, or three of 2,048.
_PAGE = 32768
# Seconds that a reader waits while a writer folds the log.
_PATIENCE = 10.0
_CUT = sqlite3.SQLITE_IOERR_SHORT_READ

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS record (
        row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, metadata TEXT NOT NULL, vector BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS attribute (
        key TEXT, value TEXT, row INTEGER, PRIMARY KEY (key, value, row)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS dead (row INTEGER PRIMARY KEY);
"""

# What tells one state of an immutable file from the next: inode, length and time of the file, length of its log.
Signature = tuple[int, int, int, int]


class SqliteFile:
    """One model's database.

    Args:
        path: of the file. While it does not exist, the database is empty; the first change creates it.
        fingerprint: of the model.
        dimension: D.

    Raises:
        RelookError: the file is damaged, of another format, or of another model.
    """

    def __init__(self, path: Path, fingerprint: str, dimension: int) -> None:
        self.path, self._fingerprint, self.dimension = path, fingerprint, dimension
        self._lock = threading.RLock()
        self._version = -1
        self._inside = False
        self._immutable: Signature | None = None
        self._memory = 0
        with sqlite_errors(self.path):
            self._open()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One state of the database for all that is read inside; other threads wait."""
        with self._lock, sqlite_errors(self.path):
            if self._inside:
                yield
                return
            if self._replaced():
                self._open()
            self._check_memory()
            before = self._immutable
            with self._transaction("BEGIN"):
                yield
            if before is not None and before != _signature(self.path):
                raise LockedError(f"{self.path}: another process writes to it where this one cannot; run it again")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What is changed inside is changed together, or not at all."""
        with self._lock, sqlite_errors(self.path):
            if not self._on_disk:
                self._create()
            self._check_memory()
            self._version = -1
            with self._transaction("BEGIN IMMEDIATE"):
                yield

    def changed(self) -> bool:
        """Whether this or another connection changed anything since the last call; inside `reading`."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        before, self._version = self._version, version
        return bool(before != version)

    def _check_memory(self) -> None:
        """Raises RelookError where the log's index, which SQLite maps into memory, was cut beside this connection.

        Reading it would end the process.
        """
        length = _length(self.path, "-shm")
        if 0 <= length < self._memory:
            # Closing the connection would read the memory too: it stays open until the process ends.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))
            raise RelookError(
                f"{self.path}-shm: cut to {length} bytes while it was in use; end every process that uses "
                f"{self.path.name} and start again"
            )
        self._memory = max(self._memory, length)

    def _replaced(self) -> bool:
        """Whether the file was created, or changed beside a connection that cannot notice it."""
        if self._immutable is not None:
            return self._immutable != _signature(self.path)
        return not self._on_disk and self.path.exists()

    def _open(self) -> None:
        """Connect to the file, or to an empty database in memory where there is none, or none was finished."""
        self._version, self._immutable, self._memory = -1, None, 0
        self._on_disk = self.path.exists()
        if self._on_disk:
            signature = _signature(self.path)
            self._db, immutable = _connect(self.path)
            self._immutable = signature if immutable else None
            self._on_disk = bool(self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'dead'").fetchone())
            if self._on_disk:
                self._check()
                self._memory = _length(self.path, "-shm")
        if not self._on_disk:
            self._immutable = None
            self._db = _connection(":memory:")
            self._db.executescript(_SCHEMA)

    def _create(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._db = _connection(str(self.path))
        self._db.execute(f"PRAGMA page_size = {_PAGE}")
        self._db.execute("PRAGMA journal_mode = WAL")
        with self._transaction("BEGIN IMMEDIATE"):
            for statement in _SCHEMA.strip().split(";\n"):
                self._db.execute(statement)
            about = {"format": str(FORMAT), "fingerprint": self._fingerprint, "dimension": str(self.dimension)}
            self._db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", about.items())
        self._on_disk = True

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
    """How many vectors a database holds, of any model."""
    with sqlite_errors(path), closing(_connect(path)[0]) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'record'").fetchone():
            return 0
        return int(db.execute("SELECT COUNT(*) FROM record").fetchone()[0])


def damaged_database(path: Path, error: object) -> RelookError:
    """The error for a database that cannot be read, with the remedy."""
    reason = " ".join(str(error).split())
    return RelookError(f"{path}: damaged ({reason}); remove {path.parent} and run: relook upload --store ann")


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Errors of SQLite and of the disk become one line that names the file. Raises RelookError, or LockedError."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise RelookError(f"{path}: cannot be written ({error.object!r} is not Unicode)") from None
    except OSError as error:
        raise RelookError(f"{path}: cannot be written ({error.strerror or error})") from None
    except sqlite3.Error as error:
        extended = getattr(error, "sqlite_errorcode", 0)
        code = extended & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise LockedError(f"{path}: another process is writing to it") from None
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or extended == _CUT:
            raise damaged_database(path, error) from None
        raise RelookError(f"{path}: {error}") from None


def _connect(path: Path) -> tuple[sqlite3.Connection, bool]:
    """A connection to a file that exists, and whether it takes the file as one that nobody changes.

    A log needs shared memory beside the file. Where the folder cannot be written and there is no log, the file alone is
    the whole database; where there is one, SQLite reads it if a writer left its shared memory there.
    """
    if os.access(path.parent, os.W_OK) and os.access(path, os.W_OK):
        return _connection(str(path)), False
    logged = _length(path, "-wal") > 0
    db = _connection(f"{path.absolute().as_uri()}?mode=ro{'' if logged else '&immutable=1'}", uri=True)
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if logged and error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise RelookError(
                f"{path}: an interrupted writer left a log that cannot be read in a read-only folder; "
                "where the folder can be written, run: relook verify --store ann"
            ) from None
        raise
    return db, not logged


def _connection(name: str, uri: bool = False) -> sqlite3.Connection:
    db = sqlite3.connect(name, timeout=_PATIENCE, isolation_level=None, check_same_thread=False, uri=uri)
    db.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last changes, and never the rest
    db.execute("PRAGMA mmap_size = 0")
    return db


def _signature(path: Path) -> Signature:
    about = path.stat()
    return about.st_ino, about.st_size, about.st_mtime_ns, max(0, _length(path, "-wal"))


def _length(path: Path, ending: str) -> int:
    """Bytes of a file beside the database, -1 where there is none."""
    try:
        return path.with_name(f"{path.name}{ending}").stat().st_size
    except FileNotFoundError:
        return -1
