"""The index directory, written: parts are added, then the manifest is swapped.

Used by the stages that change an index. One writer at a time holds the lock; a process killed at any instant leaves the
last committed generation whole, and what it left half-done is collected by the next writer.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from safetensors.numpy import save_file

from pipeline.errors import LockedError, RelookError
from pipeline.files import TEMPORARY, replacing, sha256_of, write_bytes, writing
from pipeline.stores.index import Index
from pipeline.stores.local_store import write_locals
from pipeline.stores.manifest import (
    NAME,
    Manifest,
    Part,
    PartFile,
    PartKind,
    TableFormat,
    read_manifest,
    write_manifest,
)
from pipeline.stores.map_store import write_maps
from pipeline.stores.tables import (
    FAILURES_SCHEMA,
    read_ids,
    write_globals,
    write_records,
    write_table,
)
from pipeline.types import Description, FloatArray, ImageRecord, LocalDescriptors, ModelCard

Item = TypeVar("Item")

_PART = r"part-\d{6,}-[0-9a-f]{6}\.(parquet|csv|h5)"
_TEMPORARY = rf"\.\d+{re.escape(TEMPORARY)}"
# Names of files that a killed writer leaves, by folder; whatever else lies there is not ours to remove.
_LEFTOVERS = {
    "catalog": rf"{_PART}({_TEMPORARY})?",
    "globals": rf"{_PART}({_TEMPORARY})?",
    "locals": rf"{_PART}({_TEMPORARY})?",
    "maps": rf"{_PART}({_TEMPORARY})?",
    "model": rf"fitted\.safetensors({_TEMPORARY})?",
    "runs": rf".+\.json{_TEMPORARY}",
    ".": rf"({re.escape(NAME)}|failures\.(parquet|csv)){_TEMPORARY}",
}


class IndexWriter:
    """The one writer of an index directory; use it as a context manager.

    Args:
        directory: the index; it is made if it is not there.

    Raises:
        LockedError: another process is writing to it.
        RelookError: it cannot be written, or an index is there and damaged.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RelookError(f"{directory}: cannot be made ({error.strerror})") from None
        self._lock = FileLock(directory / ".lock")
        self._manifest: Manifest | None = None
        self._places: dict[str, tuple[str, int]] | None = None

    def __enter__(self) -> IndexWriter:
        holder = self.directory / ".lock-holder"
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            with suppress(OSError):
                raise LockedError(f"{self.directory}: another run holds the lock ({holder.read_text()})") from None
            raise LockedError(f"{self.directory}: another run holds the lock") from None
        except OSError as error:
            raise RelookError(f"{self.directory}: cannot be written to ({error.strerror})") from None
        try:
            started = datetime.now(UTC).isoformat(timespec="seconds")
            with writing(holder):
                holder.write_text(f"pid {os.getpid()} on {socket.gethostname()} since {started}")
            if (self.directory / NAME).exists():
                self._manifest = read_manifest(self.directory)
            self._collect_leftovers()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def index(self) -> Index | None:
        """The generation committed last, or None while there is none."""
        return None if self._manifest is None else Index(self.directory, self._manifest)

    def begin(self, card: ModelCard, fitted: Mapping[str, FloatArray], images_root: Path, tables: TableFormat) -> None:
        """Commit an empty generation for a model, or check that the index that is there was made by it.

        Args:
            card: the model that all descriptors of this index come from.
            fitted: its projections, by name.
            images_root: the folder that the records' relative paths start from.
            tables: how catalog and globals are written.

        Raises:
            RelookError: the index was made by another model, or has tables of the other format.
        """
        if self._manifest is None:
            file = self._write_fitted(fitted) if fitted else None
            self._manifest = Manifest(
                tables=tables,
                images_root=str(images_root),
                model=card.to_json(),
                fingerprint=card.fingerprint,
                fitted=file,
            )
            self._commit()
            return
        if card.fingerprint != self._manifest.fingerprint:
            differences = "; ".join(card.differences(self._manifest.card)[:3])
            raise RelookError(f"{self.directory}: made by another model ({differences}); choose another --index")
        if tables != self._manifest.tables:
            raise RelookError(
                f"{self.directory}: its tables are {self._manifest.tables}, not {tables}; "
                "leave store.kind as it was or choose another --index"
            )
        if self._manifest.images_root != str(images_root):
            self._commit(images_root=str(images_root))

    def add(self, records: Sequence[ImageRecord], descriptions: Sequence[Description]) -> None:
        """Write one part and commit it; rows of the same ids in earlier parts are deleted by the same commit.

        Raises:
            RelookError: an id stands twice, a vector is of another dimension or not finite, only some have locals or
                maps.
        """
        if not records:
            return
        ids = [record.id for record in records]
        metadata = [{"label": r.label, "path": r.path, "split": r.split} for r in records]
        vectors = np.stack([description.vector for description in descriptions])
        _check_part(ids, vectors, self._current.card.dimension)
        local = _all_or_none([description.locals for description in descriptions], "local descriptors")
        maps = _all_or_none([description.maps for description in descriptions], "feature maps")
        name = self._new_name()
        files: dict[PartKind, PartFile] = {
            "catalog": self._write_part("catalog", name, lambda path: write_records(path, records)),
            "globals": self._write_part("globals", name, lambda path: write_globals(path, ids, vectors, metadata)),
        }
        if local:
            files["locals"] = self._write_part("locals", name, lambda path: self._write_locals(path, ids, local))
        if maps:
            files["maps"] = self._write_part("maps", name, lambda path: write_maps(path, ids, maps))
        self._commit_part(Part(name=name, rows=len(records), files=files), ids)

    def add_vectors(self, ids: Sequence[str], vectors: FloatArray, metadata: Sequence[Mapping[str, str]]) -> None:
        """Write and commit a part of global descriptors alone; earlier rows of the same ids are deleted."""
        if not ids:
            return
        _check_part(ids, vectors, self._current.card.dimension)
        name = self._new_name()
        file = self._write_part("globals", name, lambda path: write_globals(path, ids, vectors, metadata))
        self._commit_part(Part(name=name, rows=len(ids), files={"globals": file}), ids)

    def delete(self, ids: Iterable[str]) -> int:
        """Commit tombstones for these ids; returns how many rows they were."""
        places = self._living()
        known = set(ids) & places.keys()
        if known:
            self._commit(parts=self._without(known))
            for name in known:
                del places[name]
        return len(known)

    def write_failures(self, failures: Sequence[tuple[str, str, str]]) -> None:
        """Replace the list of what could not be read: (id, path, reason) each."""
        suffix = self._current.tables
        columns = [list(column) for column in zip(*failures, strict=True)] or [[], [], []]
        path = self.directory / f"failures.{suffix}"
        with writing(path), replacing(path) as temporary:
            write_table(temporary, pa.table(columns, FAILURES_SCHEMA))

    def write_report(self, verb: str, report: Mapping[str, Any]) -> Path:
        """Keep the report of a run as runs/<time>-<verb>.json; returns its path."""
        now = datetime.now(UTC)
        path = self.directory / "runs" / f"{now:%Y%m%dT%H%M%S}-{verb}-{secrets.token_hex(2)}.json"
        with writing(path):
            write_bytes(path, json.dumps({"verb": verb, "time": now.isoformat(), **report}, indent=1).encode())
        return path

    @property
    def _current(self) -> Manifest:
        if self._manifest is None:
            raise RelookError(f"{self.directory}: no index here")
        return self._manifest

    def _commit_part(self, part: Part, ids: Sequence[str]) -> None:
        places = self._living()
        self._commit(parts=(*self._without(places.keys() & set(ids)), part))
        places |= {name: (part.name, row) for row, name in enumerate(ids)}

    def _commit(self, **changes: Any) -> None:
        manifest = self._current.model_copy(update=changes)
        rows = sum(part.rows - len(part.deleted) for part in manifest.parts)
        manifest = manifest.model_copy(
            update={
                "generation": manifest.generation + 1,
                "updated": datetime.now(UTC).isoformat(timespec="seconds"),
                "counts": {"images": rows, "parts": len(manifest.parts)},
            }
        )
        with writing(self.directory / NAME):
            write_manifest(self.directory, manifest)
        self._manifest = manifest

    def _without(self, ids: Iterable[str]) -> tuple[Part, ...]:
        """The current parts with tombstones on the rows of `ids`; a part without living rows is dropped."""
        places, rows = self._living(), dict[str, set[int]]()
        for name in ids:
            part_name, row = places[name]
            rows.setdefault(part_name, set()).add(row)
        parts = []
        for part in self._current.parts:
            if part.name not in rows:
                parts.append(part)
                continue
            deleted = rows[part.name].union(part.deleted)
            if len(deleted) < part.rows:
                parts.append(part.model_copy(update={"deleted": tuple(sorted(deleted))}))
        return tuple(parts)

    def _living(self) -> dict[str, tuple[str, int]]:
        """The part and the row of every id that is not deleted: read once, so that a commit looks at its own ids."""
        if self._places is None:
            self._places = {}
            for part in self._current.parts:
                file = part.files.get("catalog") or part.files["globals"]
                dead = set(part.deleted)
                rows = enumerate(read_ids(self.directory / file.path))
                self._places |= {name: (part.name, row) for row, name in rows if row not in dead}
        return self._places

    def _new_name(self) -> str:
        return f"part-{self._current.generation + 1:06d}-{secrets.token_hex(3)}"

    def _write_part(self, kind: PartKind, name: str, write: Any) -> PartFile:
        suffix = "h5" if kind in ("locals", "maps") else self._current.tables
        return self._write_file(f"{kind}/{name}.{suffix}", write)

    def _write_locals(self, path: Path, ids: Sequence[str], items: Sequence[LocalDescriptors]) -> None:
        """As the model card says: how many, of which kind, with or without their geometry."""
        settings = self._current.card.settings.get("locals", {})
        write_locals(
            path,
            ids,
            [item.first(settings.get("stored")) for item in items],
            bits=(settings.get("projection") or {}).get("kind") == "ames_bits",
            geometry=settings.get("geometry", True),
        )

    def _write_fitted(self, fitted: Mapping[str, FloatArray]) -> PartFile:
        return self._write_file("model/fitted.safetensors", lambda path: save_file(dict(fitted), path))

    def _write_file(self, relative: str, write: Any) -> PartFile:
        path = self.directory / relative
        with writing(path), replacing(path) as temporary:
            write(temporary)
            checksum, size = sha256_of(temporary), temporary.stat().st_size
        return PartFile(path=relative, bytes=size, sha256=checksum)

    def _collect_leftovers(self) -> None:
        """Remove temporary files, and parts that were written but never committed or are no longer used."""
        kept = {file.path for file in self._manifest.files()} if self._manifest else set()
        for folder, pattern in _LEFTOVERS.items():
            for path in (self.directory / folder).glob("*"):
                # Without a manifest there is no telling what was committed: parts are then left alone.
                known = self._manifest is not None or path.name.endswith(TEMPORARY)
                if known and re.fullmatch(pattern, path.name) and f"{folder}/{path.name}" not in kept:
                    with writing(path):
                        path.unlink()


def _all_or_none(items: Sequence[Item | None], what: str) -> list[Item]:
    """What every image has, or nothing where none has it. Raises RelookError when only some have."""
    there = [item for item in items if item is not None]
    if there and len(there) != len(items):
        raise RelookError(f"only {len(there)} of {len(items)} images of a part have {what}")
    return there


def _check_part(ids: Sequence[str], vectors: FloatArray, dimension: int) -> None:
    if len(set(ids)) != len(ids):
        twice, _ = Counter(ids).most_common(1)[0]
        raise RelookError(f"the id {twice!r} stands twice in what is written")
    if vectors.shape != (len(ids), dimension):
        raise RelookError(f"vectors of shape {vectors.shape} for {len(ids)} ids; expected [{len(ids)}, {dimension}]")
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(wrong):
        raise RelookError(f"the vector of {ids[wrong[0]]!r} holds NaN or infinity")
