"""The index directory, written: parts are added, then the manifest is swapped.

Used by the stages that change an index. One writer at a time holds the lock; a process killed at any instant leaves the
last committed generation whole, and what it left half-done is collected by the next writer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from pipeline.errors import RelookError
from pipeline.faults import fault_point
from pipeline.files import atomic_path, write_errors
from pipeline.stores.index.directory import Index
from pipeline.stores.index.generations import Collected, collect, keep_copy, read_earlier
from pipeline.stores.index.lock import IndexLock
from pipeline.stores.index.manifest import NAME, STAGED, Manifest, Part, TableFormat, read_manifest, write_manifest
from pipeline.stores.index.part_files import PartFiles, write_fitted
from pipeline.stores.index.rows import Places, places_of, revised, without
from pipeline.stores.index.run_reports import write_report
from pipeline.stores.index.tables import FAILURES_SCHEMA, write_table
from pipeline.types import Description, FloatArray, ImageRecord, ModelCard


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
        self._lock = IndexLock(directory)
        self._head: Manifest | None = None
        self._staged: Manifest | None = None
        self._places: Places | None = None
        self._staging = False
        self._collected = Collected(0, 0)

    def __enter__(self) -> IndexWriter:
        self._lock.acquire()
        try:
            if (self.directory / NAME).exists():
                self._head = read_manifest(self.directory)
            if (self.directory / STAGED).exists():
                self._open_staged()
            self._collected = collect(self.directory, self._head, self._staged)
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
        """What is being written, as it was committed last: of a change of model the new one; None while there is none.

        Until `begin`, it is the committed generation.
        """
        manifest = self._staged if self._staging else self._head
        return None if manifest is None else Index(self.directory, manifest)

    @property
    def staged(self) -> Index | None:
        """What a change of model has made so far, or None where none is under way."""
        return None if self._staged is None else Index(self.directory, self._staged)

    def begin(
        self,
        card: ModelCard,
        fitted: Mapping[str, FloatArray],
        images_root: Path,
        tables: TableFormat,
        asked: Mapping[str, Any] | None = None,
        *,
        change_model: bool = False,
    ) -> None:
        """Commit an empty generation for a model, or go on with the index that it made.

        Args:
            card: the model that all descriptors of this index come from.
            fitted: its projections, by name.
            images_root: the folder that the records' relative paths start from.
            tables: how catalog and globals are written.
            asked: what the model follows from, in plain JSON values; kept for who asks again.
            change_model: where the index is of another model, begin or resume one of this model beside it, which takes
                its place in `complete`.

        Raises:
            RelookError: the index was made by another model, or has tables of the other format.
        """
        if self._head is not None and tables != self._head.tables:
            raise RelookError(
                f"{self.directory}: its tables are {self._head.tables}, not {tables}; "
                "leave store.kind as it was or choose another --index"
            )
        self._staging = self._head is not None and card.fingerprint != self._head.fingerprint
        if self._staging and not change_model:
            assert self._head is not None
            differences = "; ".join(card.differences(self._head.card)[:3])
            raise RelookError(
                f"{self.directory}: made by another model ({differences}); "
                "choose another --index, or change its model with: relook reindex"
            )
        if self._staged is not None and card.fingerprint != self._staged.fingerprint:
            self._drop_staged()
        self._places = None
        current = self._staged if self._staging else self._head
        if current is None:
            self._begin_empty(card, fitted, images_root, tables, asked)
            return
        if str(images_root) != current.images_root:
            self._commit(images_root=str(images_root))
        if asked is not None and asked != current.asked:  # the same model, asked for in other words
            self._commit(asked=dict(asked), complete=self._current.complete)

    def add(self, records: Sequence[ImageRecord], descriptions: Sequence[Description]) -> None:
        """Write one part and commit it; rows of the same ids in earlier parts are deleted by the same commit.

        Raises:
            RelookError: an id stands twice, a vector is of another dimension or not finite, only some have locals or
                maps.
        """
        if records:
            part = PartFiles(self.directory, self._current).write(records, descriptions)
            self._commit_part(part, [record.id for record in records])

    def add_vectors(self, ids: Sequence[str], vectors: FloatArray, metadata: Sequence[Mapping[str, str]]) -> None:
        """Write and commit a part of global descriptors alone; earlier rows of the same ids are deleted."""
        if ids:
            self._commit_part(PartFiles(self.directory, self._current).write_vectors(ids, vectors, metadata), ids)

    def delete(self, ids: Iterable[str]) -> int:
        """Commit tombstones for these ids; returns how many rows they were."""
        known = set(ids) & self._living().keys()
        if known:
            self._commit(parts=without(self._current, self._living(), known))
            for name in known:
                del self._living()[name]
        return len(known)

    def revise(self, records: Mapping[str, ImageRecord], gone: Iterable[str] = ()) -> None:
        """Commit what is said of images whose descriptors stay: new ids, paths, labels, splits, times.

        Args:
            records: what is true now, by the id that the image has had.
            gone: ids to delete in the same commit.

        Raises:
            RelookError: two images would have one id.
        """
        places = self._living()
        gone = set(gone) & places.keys()
        if records or gone:
            self._commit(parts=revised(self.directory, self._current, places, records, gone))
            self._places = None

    def fold(self, group: Sequence[Part], records: Sequence[ImageRecord], descriptions: Sequence[Description]) -> None:
        """Commit one part in the place of several neighbours, whose living rows it holds in their order."""
        whole = PartFiles(self.directory, self._current).write(records, descriptions)
        names = {part.name for part in group}
        parts = [whole if part.name == group[0].name else part for part in self._current.parts]
        kept = tuple(part for part in parts if part.name not in names)
        # What the index says is the same: a generation that could be returned to is replaced, not followed.
        self._commit(parts=kept, complete=self._current.complete)
        self._places = None

    def complete(self, keep: int) -> None:
        """The run is done: its generation can be returned to, and is what readers see where the model changed.

        Args:
            keep: how many generations can be returned to from now on, this one among them; at least 1.
        """
        if self._staging:
            self._switch(keep)
            return
        earlier = _last(self._current.earlier, keep - 1)
        if not self._current.complete or earlier != self._current.earlier:
            self._commit(complete=True, earlier=earlier)

    def rollback(self) -> None:
        """Commit the generation that the last run but this one ended with.

        Raises:
            RelookError: none is kept, or one of its files is damaged.
        """
        if not self._current.earlier:
            raise RelookError(f"{self.directory}: no earlier generation is kept; there is nothing to go back to")
        *earlier, last = self._current.earlier
        manifest = read_earlier(self.directory, last)
        wrong = Index(self.directory, manifest).verify()
        if wrong:
            raise RelookError(f"{wrong[0]}; generation {manifest.generation} is not whole, so nothing was changed")
        self._commit(
            **{name: getattr(manifest, name) for name in Manifest.model_fields.keys() - {"generation", "earlier"}},
            earlier=tuple(earlier),
        )
        self._places = None

    def collect(self, keep: int) -> Collected:
        """Forget all but `keep` generations (the committed one among them), and remove what no other needs.

        Returns:
            What was removed since the index was opened.
        """
        if self._head is not None and len(self._head.earlier) > keep - 1:
            self._commit(complete=self._head.complete, earlier=_last(self._head.earlier, keep - 1))
        now, before = collect(self.directory, self._head, self._staged), self._collected
        return Collected(now.files + before.files, now.bytes + before.bytes)

    def write_failures(self, failures: Sequence[tuple[str, str, str]]) -> None:
        """Replace the list of what could not be read: (id, path, reason) each."""
        suffix = self._current.tables
        columns = [list(column) for column in zip(*failures, strict=True)] or [[], [], []]
        path = self.directory / f"failures.{suffix}"
        with write_errors(path), atomic_path(path) as temporary:
            write_table(temporary, pa.table(columns, FAILURES_SCHEMA))

    def write_report(self, verb: str, report: Mapping[str, Any], *, changed: bool = True) -> None:
        """Keep the report of a run as runs/latest.json and, where it `changed` the index, as a file of its own."""
        write_report(self.directory, verb, report, changed=changed)

    @property
    def _current(self) -> Manifest:
        manifest = self._staged if self._staging else self._head
        if manifest is None:
            raise RelookError(f"{self.directory}: no index here")
        return manifest

    def _open_staged(self) -> None:
        """A change of model that was under way; one that was done when its process was killed goes."""
        staged = read_manifest(self.directory, STAGED)
        self._staged = staged
        if self._head is None or staged.fingerprint == self._head.fingerprint:
            self._drop_staged()

    def _drop_staged(self) -> None:
        with write_errors(self.directory / STAGED):
            (self.directory / STAGED).unlink()
        fault_point("dropped")
        self._staged = None

    def _begin_empty(
        self,
        card: ModelCard,
        fitted: Mapping[str, FloatArray],
        images_root: Path,
        tables: TableFormat,
        asked: Mapping[str, Any] | None,
    ) -> None:
        file = write_fitted(self.directory, fitted, card.fingerprint) if fitted else None
        self._write(
            Manifest(
                generation=self._head.generation if self._head else 0,
                tables=tables,
                images_root=str(images_root),
                model=card.to_json(),
                fingerprint=card.fingerprint,
                asked=dict(asked) if asked is not None else None,
                fitted=file,
            )
        )

    def _commit_part(self, part: Part, ids: Sequence[str]) -> None:
        places = self._living()
        self._commit(parts=(*without(self._current, places, places.keys() & set(ids)), part))
        places |= {name: (part.name, row) for row, name in enumerate(ids)}

    def _commit(self, **changes: Any) -> None:
        """Follow the current generation, which can be returned to if it was complete and this one is not."""
        current = self._current
        if current.complete and not changes.get("complete"):
            changes = {"earlier": (*current.earlier, keep_copy(self.directory, current)), **changes}
        self._write(current.model_copy(update={"complete": False, **changes}))

    def _switch(self, keep: int) -> None:
        """The new model's generation takes the place of the old one's, in one step."""
        head, staged = self._head, self._current
        assert head is not None
        earlier = (*head.earlier, keep_copy(self.directory, head)) if keep > 1 else ()
        self._staging = False
        generation = max(head.generation, staged.generation)
        self._write(
            staged.model_copy(update={"complete": True, "earlier": _last(earlier, keep - 1), "generation": generation})
        )
        self._drop_staged()

    def _write(self, manifest: Manifest) -> None:
        """The commit: this manifest, as the next generation."""
        rows = sum(part.rows - len(part.deleted) for part in manifest.parts)
        changes = {
            "generation": manifest.generation + 1,
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            "counts": {"images": rows, "parts": len(manifest.parts)},
        }
        manifest = manifest.model_copy(update=changes)
        name = STAGED if self._staging else NAME
        self._lock.check()
        fault_point("commit")
        with write_errors(self.directory / name):
            write_manifest(self.directory, manifest, name)
        fault_point("committed")
        if self._staging:
            self._staged = manifest
        else:
            self._head = manifest

    def _living(self) -> Places:
        """Where every image is: read once, so that a commit looks at its own ids."""
        if self._places is None:
            self._places = places_of(self.directory, self._current)
        return self._places


def _last(files: Sequence[Any], count: int) -> tuple[Any, ...]:
    return tuple(files[max(0, len(files) - count) :]) if count > 0 else ()
