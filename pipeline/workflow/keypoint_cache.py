"""Keypoints that were extracted for a search and are not part of the index: kept, so that the next search has them.

One SQLite file per kind of keypoints in `INDEX/cache/`, keyed by the photo's content. It can be deleted at any time; a
folder that cannot be written is read only, and a damaged file is made anew.
"""

from __future__ import annotations

import io
import logging
import sqlite3
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.types import ImageRecord, Keypoints

logger = logging.getLogger("relook")

# Photos in the file; the oldest leave. 1,024 keypoints of 64 values take 145 kB.
_MOST = 20_000
_SECONDS = 10.0
_DAMAGED = (sqlite3.Error, zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, KeyError)
_ARRAYS = ("xy", "descriptors", "score", "scale", "orientation")


class KeypointCache:
    """A file of keypoints.

    Args:
        path: the file; it and its folder are made when something is kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, records: Sequence[ImageRecord]) -> dict[str, Keypoints]:
        """What is kept of these images, by id."""
        if not self._path.is_file():
            return {}
        keys = {key_of(record): record.id for record in records}
        found: dict[str, Keypoints] = {}
        try:
            with closing(sqlite3.connect(self._path, timeout=_SECONDS)) as base:
                for key, name in keys.items():
                    row = base.execute("SELECT content FROM keypoints WHERE key = ?", (key,)).fetchone()
                    if row is not None:
                        found[name] = _unpacked(row[0])
        except sqlite3.OperationalError as error:  # in use, or without its table
            logger.info("%s: cannot be read now (%s); keypoints are extracted again", self._path, error)
        except _DAMAGED as error:
            logger.warning("%s: damaged (%s); keypoints are extracted again", self._path, error)
            with suppress(OSError):
                self._path.unlink()
        return found

    def keep(self, items: Iterable[tuple[ImageRecord, Keypoints]]) -> None:
        """Add keypoints. A folder that cannot be written is said in the log, and the search goes on."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=_SECONDS)) as base, base:
                base.execute("CREATE TABLE IF NOT EXISTS keypoints (key TEXT PRIMARY KEY, content BLOB NOT NULL)")
                rows = [(key_of(record), _packed(keypoints)) for record, keypoints in items]
                base.executemany("INSERT OR REPLACE INTO keypoints VALUES (?, ?)", rows)
                base.execute("DELETE FROM keypoints WHERE rowid <= (SELECT max(rowid) FROM keypoints) - ?", (_MOST,))
        except (sqlite3.Error, OSError) as error:
            logger.warning("%s: keypoints are not kept (%s)", self._path, error)


def as_kept(keypoints: Keypoints) -> Keypoints:
    """With the precision in which a cache keeps them, so that a first search and later ones score alike."""
    return replace(keypoints, descriptors=keypoints.descriptors.astype(np.float16).astype(np.float32))


def key_of(record: ImageRecord) -> str:
    """What must be equal for keypoints to be those of an image: the file's content, and the part that was read."""
    return f"{record.sha256} {record.bbox or ''}"


def _packed(keypoints: Keypoints) -> bytes:
    arrays: dict[str, Any] = {name: getattr(keypoints, name) for name in _ARRAYS}
    file = io.BytesIO()
    # Half precision changes a unit vector's cosine by less than 1e-3, as in the index.
    np.savez(file, **{**arrays, "descriptors": arrays["descriptors"].astype(np.float16)}, region=keypoints.region)
    return file.getvalue()


def _unpacked(content: bytes) -> Keypoints:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name].astype(np.float32) for name in _ARRAYS}
        x0, y0, x1, y1 = map(float, file["region"])
    return Keypoints(**arrays, region=(x0, y0, x1, y1))
