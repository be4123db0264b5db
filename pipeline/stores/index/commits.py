"""Commits of an index directory: the committed generation, and the one of a new model that is made beside it.

Below the index writer, which says what the next generation consists of. Replacing `index.json` is the only commit that
readers see; `next.json` holds what a change of model has made so far, until `switch` puts it in the place of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import RelookError
from pipeline.faults import fault_point
from pipeline.files import Place, address, write_errors
from pipeline.stores.index.directory import Index
from pipeline.stores.index.lock import IndexLock
from pipeline.stores.index.manifest import NAME, STAGED, IndexManifest, TableFormat, read_manifest, write_manifest
from pipeline.stores.index.part_files import write_fitted
from pipeline.stores.index.retention import keep_copy, read_earlier
from pipeline.types import FloatArray, ModelCard


class Commits:
    """The manifests of an index that its writer replaces.

    Args:
        directory: the index.
        lock: held while anything is committed.

    Attributes:
        head: the committed generation; None before the first commit.
        staged: what a change of model has made so far; None while none is under way.
        staging: whether `commit` writes to the latter.
    """

    def __init__(self, directory: Path, lock: IndexLock) -> None:
        self.directory, self._lock = directory, lock
        self.head: IndexManifest | None = None
        self.staged: IndexManifest | None = None
        self.staging = False

    def open(self) -> None:
        """Read what is committed. Raises RelookError where a manifest is damaged."""
        if (self.directory / NAME).exists():
            self.head = read_manifest(self.directory)
        if (self.directory / STAGED).exists():
            self.staged = read_manifest(self.directory, STAGED)
            # A process may be killed between the switch to a model and the removal of the file that made it.
            if self.head is None or self.staged.fingerprint == self.head.fingerprint:
                self._drop_staged()

    @property
    def current(self) -> IndexManifest:
        """What the next commit follows. Raises RelookError where there is no index."""
        manifest = self.staged if self.staging else self.head
        if manifest is None:
            raise RelookError(f"{self.directory}: no index here")
        return manifest

    def begin(
        self,
        card: ModelCard,
        fitted: Mapping[str, FloatArray],
        images_root: Place,
        tables: TableFormat,
        asked: Mapping[str, Any] | None,
        change_model: bool,
    ) -> None:
        """See `IndexWriter.begin`."""
        if self.head is not None and tables != self.head.tables:
            raise RelookError(
                f"{self.directory}: its tables are {self.head.tables}, not {tables}; "
                "leave store.kind as it was or choose another --index"
            )
        self.staging = self.head is not None and card.fingerprint != self.head.fingerprint
        if self.staging and not change_model:
            assert self.head is not None
            differences = "; ".join(card.differences(self.head.card)[:3])
            raise RelookError(
                f"{self.directory}: made by another model ({differences}); "
                "choose another --index, or change its model with: relook reindex"
            )
        if self.staged is not None and card.fingerprint != self.staged.fingerprint:
            self._drop_staged()
        current = self.staged if self.staging else self.head
        if current is None:
            self._begin_empty(card, fitted, images_root, tables, asked)
            return
        if address(images_root) != current.images_root:
            self.commit(images_root=address(images_root))
        if asked is not None and asked != current.asked:  # the same model, requested with other settings
            self.commit(asked=dict(asked), complete=self.current.complete)

    def commit(self, **changes: Any) -> None:
        """Follow the current generation; that one is kept for a rollback if it was complete and the new one is not."""
        current = self.current
        if current.complete and not changes.get("complete"):
            changes = {"earlier": (*current.earlier, keep_copy(self.directory, current)), **changes}
        self._write(current.model_copy(update={"complete": False, **changes}))

    def complete(self, keep: int) -> None:
        """See `IndexWriter.complete`."""
        if self.staging:
            self._switch(keep)
            return
        earlier = _last(self.current.earlier, keep - 1)
        if not self.current.complete or earlier != self.current.earlier:
            self.commit(complete=True, earlier=earlier)

    def rollback(self) -> None:
        """See `IndexWriter.rollback`."""
        if not self.current.earlier:
            raise RelookError(f"{self.directory}: no earlier generation is kept; there is nothing to go back to")
        *earlier, last = self.current.earlier
        manifest = read_earlier(self.directory, last)
        wrong = Index(self.directory, manifest).verify()
        if wrong:
            raise RelookError(f"{wrong[0]}; generation {manifest.generation} is not whole, so nothing was changed")
        self.commit(
            **{name: getattr(manifest, name) for name in IndexManifest.model_fields.keys() - {"generation", "earlier"}},
            earlier=tuple(earlier),
        )

    def forget(self, keep: int) -> None:
        """Keep the last `keep` generations, the committed one among them."""
        if self.head is not None and len(self.head.earlier) > keep - 1:
            self.commit(complete=self.head.complete, earlier=_last(self.head.earlier, keep - 1))

    def _drop_staged(self) -> None:
        with write_errors(self.directory / STAGED):
            (self.directory / STAGED).unlink()
        fault_point("dropped")
        self.staged = None

    def _begin_empty(
        self,
        card: ModelCard,
        fitted: Mapping[str, FloatArray],
        images_root: Place,
        tables: TableFormat,
        asked: Mapping[str, Any] | None,
    ) -> None:
        file = write_fitted(self.directory, fitted, card.fingerprint) if fitted else None
        self._write(
            IndexManifest(
                generation=self.head.generation if self.head else 0,
                tables=tables,
                images_root=address(images_root),
                model=card.to_json(),
                fingerprint=card.fingerprint,
                asked=dict(asked) if asked is not None else None,
                fitted=file,
            )
        )

    def _switch(self, keep: int) -> None:
        """The new model's generation takes the place of the old one's, in one step."""
        head, staged = self.head, self.current
        assert head is not None
        earlier = (*head.earlier, keep_copy(self.directory, head)) if keep > 1 else ()
        self.staging = False
        generation = max(head.generation, staged.generation)
        self._write(
            staged.model_copy(update={"complete": True, "earlier": _last(earlier, keep - 1), "generation": generation})
        )
        self._drop_staged()

    def _write(self, manifest: IndexManifest) -> None:
        """The commit: this manifest, as the next generation."""
        rows = sum(part.rows - len(part.deleted) for part in manifest.parts)
        changes = {
            "generation": manifest.generation + 1,
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            "counts": {"images": rows, "parts": len(manifest.parts)},
        }
        manifest = manifest.model_copy(update=changes)
        name = STAGED if self.staging else NAME
        self._lock.check()
        fault_point("commit")
        with write_errors(self.directory / name):
            write_manifest(self.directory, manifest, name)
        fault_point("committed")
        if self.staging:
            self.staged = manifest
        else:
            self.head = manifest


def _last(files: Sequence[Any], count: int) -> tuple[Any, ...]:
    return tuple(files[max(0, len(files) - count) :]) if count > 0 else ()
