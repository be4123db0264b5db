"""Verified pairs at rest: one SQLite file beside the checkpoint, so that no pair of photos is matched twice.

Written block by block while pairs are verified: a process that is killed has lost one block. Photos are named by their
content, so that one which was moved or renamed keeps its pairs, and one which changed does not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import RelookError
from pipeline.files import write_errors
from pipeline.train.mining.evidence import Evidence

# The contents of two photos, the smaller one first.
Names = tuple[str, str]

_SECONDS = 60.0
_TABLE = (
    "CREATE TABLE IF NOT EXISTS pairs (way TEXT, first TEXT, second TEXT, inliers INTEGER, support REAL, spread REAL, "
    "PRIMARY KEY (way, first, second)) WITHOUT ROWID"
)
_FIND = "SELECT inliers, support, spread FROM pairs WHERE way = ? AND first = ? AND second = ?"


class PairFile:
    """The pairs that one way of matching has verified.

    Args:
        path: the file, made with its folder when something is kept.
        way: equal for equal keypoints, matchers and geometry; pairs of other ways stay in the file and are not read.
    """

    def __init__(self, path: Path, way: str) -> None:
        self.path = path
        self._way = way

    def read(self, pairs: Sequence[Names]) -> dict[Names, Evidence]:
        """What is known of these pairs. Raises RelookError when the file cannot be read."""
        if not self.path.is_file():
            return {}
        found: dict[Names, Evidence] = {}
        with self._opened() as base:
            for pair in pairs:
                row = base.execute(_FIND, (self._way, *pair)).fetchone()
                if row is not None:
                    found[pair] = Evidence(int(row[0]), float(row[1]), float(row[2]))
        return found

    def keep(self, found: Mapping[Names, Evidence]) -> None:
        """Add verified pairs, all or none of them. Raises RelookError when the file cannot be written."""
        rows = [(self._way, *pair, one.inliers, one.support, one.spread) for pair, one in found.items()]
        with write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._opened() as base, base:
                base.executemany("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?, ?, ?, ?)", rows)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        base = sqlite3.connect(self.path, timeout=_SECONDS)
        try:
            base.execute(_TABLE)
            yield base
        except (sqlite3.OperationalError, sqlite3.ProgrammingError):
            raise
        except sqlite3.DatabaseError as error:
            raise RelookError(f"{self.path}: damaged ({error}); remove it, and the pairs are verified again") from None
        finally:
            base.close()


def pairs_beside(out: Path) -> Path:
    """The file of verified pairs of a checkpoint."""
    return out.with_name(f"{out.stem}.pairs.sqlite")


def names_of(one: str, other: str) -> Names:
    """The names of a pair in their order."""
    return (one, other) if one <= other else (other, one)
