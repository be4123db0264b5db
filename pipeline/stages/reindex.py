"""`reindex`: index and store to the state of the photos, by the smallest work; made to be run from cron.

The nightly verb. Networks are loaded only where there is something to describe or another model is asked for, so this
module imports none; a run that is stopped or killed is taken up by the next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.catalog import Catalog, load_catalog
from pipeline.config import Config
from pipeline.errors import RelookError, UsageError
from pipeline.stores import Index, IndexWriter
from pipeline.stores.index.compaction import fold_parts, small_parts
from pipeline.stores.registry import is_index_backed, table_format
from pipeline.workflow.indexing.changes import Changes, find_changes
from pipeline.workflow.indexing.writer_wait import open_writer
from pipeline.workflow.progress import Reporter, Silent
from pipeline.workflow.requested_model import requested_model
from pipeline.workflow.stop import Stop

if TYPE_CHECKING:
    from pipeline.workflow.indexing.extraction import Outcome

logger = logging.getLogger("relook")


@dataclass(frozen=True)
class ReindexResult:
    """What a run did; counts are of images.

    Attributes:
        outcome: "done", or "stopped" when it was asked to before it was done.
        stopped: why: the name of a signal, or "timeout"; "" where it was not.
        model: "same", "changed" when this run ended a change of model, "changing" when one is under way.
        store: what its upload counted.
    """

    outcome: str
    stopped: str
    index: str
    generation: int
    model: str
    images: int
    added: int
    changed: int
    moved: int
    relabelled: int
    removed: int
    equal: int
    failed: int
    ignored: int
    folded: int
    seconds: float
    weights: str
    store: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json` and the run's report."""
        return asdict(self)


def reindex(
    config: Config,
    images: str | None = None,
    reporter: Reporter | None = None,
    stop: Stop | None = None,
    *,
    wait: float = 0.0,
    check_content: bool = False,
) -> ReindexResult:
    """Bring index and store up to date.

    Args:
        config: `index`, `catalog`, `describe`, `extract`, `reindex` and `store` matter here.
        images: a folder, a manifest, or NAME:FOLDER of a data set; None: `catalog.images`.
        reporter: told about the progress.
        stop: asked between two photos.
        wait: seconds to wait while another run holds the lock.
        check_content: read every photo, also those whose size and time are as they were.

    Raises:
        LockedError: another run holds the lock for longer than `wait`.
        UsageError: nobody says where the photos are.
        RelookError: there are no images, none can be read, more of the index's are gone than
            `reindex.max_removed` allows, or the index or the store cannot be written.
    """
    images = images or config.catalog.images
    if images is None:
        raise UsageError("which photos? give --images, or catalog.images in the configuration")
    stop = stop or Stop()
    with open_writer(config.index, wait, stop) as writer:
        run = _Run(writer, config, reporter or Silent(), stop)
        try:
            result = run.bring(images, check_content)
        except RelookError as error:
            with suppress(RelookError):  # the disk may be full: the first error is the one to show
                writer.write_report("reindex", {"outcome": "failed", "error": str(error)}, changed=False)
            raise
        writer.write_report("reindex", result.to_json(), changed=result.generation != run.began)
    return result


class _Run:
    def __init__(self, writer: IndexWriter, config: Config, reporter: Reporter, stop: Stop) -> None:
        self._started = time.monotonic()
        self._writer, self._config, self._reporter, self._stop = writer, config, reporter, stop
        self._describer: Any = None
        self._head = writer.index
        self.began = writer.index.manifest.generation if writer.index else 0

    def bring(self, images: str, check_content: bool) -> ReindexResult:
        catalog = load_catalog(images, self._config.catalog.labels, self._config.catalog.outside)
        self._begin(catalog)
        changes = find_changes(catalog, self._index.records, check_content=check_content)
        self._check_removed(changes)
        self._writer.revise(changes.revised, changes.replaced)
        added, changed, failures = 0, 0, list(catalog.failed)
        if changes.fresh.any():
            outcome = self._describe(changes)
            added, changed, failures = outcome.added, outcome.changed, [*failures, *outcome.failures]
        if failures and len(failures) == len(catalog) + len(catalog.failed):
            _, path, reason = failures[-1]
            raise RelookError(f"none of the {len(failures)} images can be read; the first is {path}: {reason}")
        folded = self._finish(changes)
        self._writer.write_failures(failures)
        committed = Index(self._config.index)
        store = {} if self._stop.reason else self._fill_store(committed)
        return ReindexResult(
            outcome="stopped" if self._stop.reason else "done",
            stopped=self._stop.reason,
            index=str(self._config.index),
            generation=committed.manifest.generation,
            model=self._model(committed),
            images=committed.manifest.counts["images"],
            added=added,
            changed=changed,
            moved=changes.moved,
            relabelled=changes.relabelled,
            removed=len(changes.removed | changes.replaced),
            equal=changes.equal + changes.touched,
            failed=len(failures),
            ignored=catalog.ignored,
            folded=folded,
            seconds=round(time.monotonic() - self._started, 2),
            weights=committed.card.weights,
            store=store,
        )

    @property
    def _index(self) -> Index:
        index = self._writer.index
        assert index is not None
        return index

    def _begin(self, catalog: Catalog) -> None:
        """Go on with the index if the model asked for is its own, otherwise with the change of its model."""
        asked, tables = requested_model(self._config), table_format(self._config.store.kind)
        for made in (self._head, self._writer.staged):
            if made is not None and made.manifest.asked == asked:
                self._writer.begin(made.card, {}, catalog.root, tables, asked, change_model=True)
                return
        self._describer = self._new_describer(catalog)
        card, fitted = self._describer.card, self._describer.fitted()
        if self._head is not None and card.fingerprint != self._head.card.fingerprint:
            differences = "; ".join(card.differences(self._head.card)[:3])
            logger.info("another model is asked for (%s); the old one answers until it is complete", differences)
        self._writer.begin(card, fitted, catalog.root, tables, asked, change_model=True)

    def _check_removed(self, changes: Changes) -> None:
        """A drive that is not mounted, or half of one, looks like photos that were removed."""
        gone = changes.removed
        if self._head is not None and self._index.manifest.card != self._head.card:  # to become all of the index
            gone = self._head.records.keys() - {record.id for record in changes.catalog}
        count = len(self._head.records) if self._head else 0
        if len(gone) > self._config.reindex.max_removed * count:
            raise RelookError(
                f"{changes.catalog.root}: {len(gone)} of {count} images are gone, the first is {min(gone)}; "
                "mount what is missing, or remove them with: --set reindex.max_removed=1"
            )

    def _new_describer(self, catalog: Catalog) -> Any:
        """What the configuration asks for, with the projections of the index where it is of the same model but them."""
        from pipeline.workflow.indexing.extraction import fit
        from pipeline.workflow.model_loading import new_describer

        describer = new_describer(self._config)
        if not describer.to_fit:
            return describer
        for made in (self._head, self._writer.staged):
            if made is not None:
                candidate = new_describer(self._config)
                with suppress(RelookError):  # projections of other dimensions
                    candidate.use_fitted(made.fitted())
                    if not candidate.to_fit and candidate.card.fingerprint == made.card.fingerprint:
                        return candidate
        fit(describer, catalog, self._config, self._reporter)
        return describer

    def _describe(self, changes: Changes) -> Outcome:
        from pipeline.workflow.indexing.extraction import describe_changes
        from pipeline.workflow.model_loading import new_describer

        if self._describer is None:
            self._describer = new_describer(self._config)
            self._describer.use_fitted(self._index.fitted())
        return describe_changes(self._writer, self._describer, changes, self._config, self._reporter, self._stop)

    def _finish(self, changes: Changes) -> int:
        """What ends a run that was not stopped; returns how many parts were folded."""
        if self._stop.reason:
            return 0
        self._writer.delete(changes.removed)
        folded, size = 0, self._config.extract.part_size
        if small_parts(self._index.manifest.parts, size) > self._config.reindex.small_parts:
            folded = fold_parts(self._writer, size, tombstones=False)
        self._writer.complete(self._config.reindex.keep)
        self._writer.collect(self._config.reindex.keep)
        wrong = self._index.verify(quick=True)
        if wrong:
            raise RelookError(f"{wrong[0]}; return to an earlier generation with: relook reindex --rollback")
        return folded

    def _fill_store(self, committed: Index) -> Mapping[str, Any]:
        if is_index_backed(self._config.store.kind) or not committed.manifest.counts["images"]:
            return {}
        from pipeline.stages.upload import upload
        from pipeline.workflow.gallery import open_gallery

        # Whoever searches with this configuration asks for this model, so it is the one that a service answers with.
        promote = open_gallery(self._config, searched=False).store.hosted
        return upload(self._config, self._reporter, promote=promote).to_json()

    def _model(self, committed: Index) -> str:
        if self._writer.staged is not None:
            return "changing"
        before = self._head
        return "changed" if before and before.card.fingerprint != committed.card.fingerprint else "same"
