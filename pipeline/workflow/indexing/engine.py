"""The engine of `extract` and `reindex`: from what differs between photos and index to a committed, complete index.

In this order: find what differs, refuse a large loss, commit records whose descriptors stay, describe part by part,
delete what is gone, find keypoints where only they changed, fill the store, complete the generation. After a change of
model the last step is the switch to it, so that its store is filled and verified before any search needs it. A run that
is stopped or killed anywhere leaves what searches use untouched, and the next run continues.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.stores import Index, IndexWriter
from pipeline.stores.index.compaction import fold_parts, small_parts
from pipeline.stores.index.writer_when_free import writer_when_free
from pipeline.workflow.indexing.changes import Changes, find_changes
from pipeline.workflow.indexing.keypoints_choice import KeypointsChoice
from pipeline.workflow.indexing.model_choice import ModelChoice
from pipeline.workflow.indexing.photos import photos_of, refuse_index_among_photos
from pipeline.workflow.indexing.removal_guard import check_removed
from pipeline.workflow.indexing.store_filling import fill_store
from pipeline.workflow.progress import Reporter
from pipeline.workflow.stop import Stop


@dataclass(frozen=True)
class SyncPolicy:
    """What a verb does beside describing photos and committing them.

    Attributes:
        verb: the name of its reports.
        change_model: where the configuration requests another model than the index's, make an index of that model
            beside it and switch to it when it is complete; False: that is an error.
        sync_store: bring a store that is not the index itself to the state of the index.
        tidy: merge small parts, remove files that no kept generation needs, and check the length of the others.
    """

    verb: str
    change_model: bool
    sync_store: bool
    tidy: bool


EXTRACT = SyncPolicy("extract", change_model=False, sync_store=False, tidy=False)
REINDEX = SyncPolicy("reindex", change_model=True, sync_store=True, tidy=True)


@dataclass(frozen=True)
class SyncSummary:
    """What a run did; counts are of images.

    Attributes:
        outcome: "done", or "stopped" when a signal or `--timeout` ended it early.
        stopped: the reason: the name of a signal, or "timeout"; "" where it was not.
        index, generation: the directory, and its committed generation after the run.
        model: "same", "changed" when this run ended a change of model, "changing" when one is under way.
        images: in the index after the run.
        added, changed: described, because they are new or their content is.
        moved: the same content under another id or path; not described.
        relabelled: another label or split; not described.
        removed: taken out of the index, because they are not among the photos any more.
        equal: nothing to do.
        failed: could not be read; listed in `failures.parquet`.
        ignored: files that are no pictures by their names.
        unmatched: rows of the labels file that name no photo.
        keypoints: images whose keypoints were found anew while their other descriptors stayed.
        folded: parts that were merged into others.
        seconds: of the run.
        weights: of the model, as its card says.
        store: what the upload counted; empty where the store is the index itself.
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
    unmatched: int
    keypoints: int
    folded: int
    seconds: float
    weights: str
    store: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json` and the run's report."""
        return asdict(self)


def sync_index(
    policy: SyncPolicy,
    config: Config,
    images: str,
    reporter: Reporter,
    stop: Stop,
    *,
    wait: float = 0.0,
    check_content: bool = False,
    promote: bool = False,
) -> SyncSummary:
    """Bring an index to the state of the photos.

    Args:
        policy: of the verb.
        config: `index`, `catalog`, `describe`, `extract`, `reindex` and `store` matter here.
        images: a folder, a manifest, or NAME:FOLDER of a data set.
        reporter: told about the progress.
        stop: checked between two photos; parts that were begun are committed.
        wait: seconds to wait while another run holds the lock.
        check_content: read every photo, also those whose size and time are unchanged.
        promote: in a hosted store, searches use this index's model afterwards, whichever they used before.

    Raises:
        LockedError: another run holds the lock for longer than `wait`.
        UsageError: a new index would be written among the photos.
        RelookError: there are no images, none can be read, more of the index's are gone than `reindex.max_removed`
            allows, the index is of another model and the policy does not change it, or index or store cannot be
            written.
    """
    refuse_index_among_photos(config.index, images)
    with writer_when_free(config.index, wait, lambda: stop.reason) as writer:
        run = _Run(policy, writer, config, reporter, stop)
        try:
            summary = run.sync(images, check_content, promote)
        except RelookError as error:
            with suppress(RelookError):  # the disk may be full: the first error is the one to show
                writer.write_report(policy.verb, {"outcome": "failed", "error": str(error)}, changed=False)
            raise
        writer.write_report(policy.verb, summary.to_json(), changed=summary.generation != run.generation)
    return summary


@dataclass
class _Done:
    """What a run has done so far."""

    added: int = 0
    changed: int = 0
    keypoints: int = 0
    folded: int = 0
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    store: Mapping[str, Any] = field(default_factory=dict)


class _Run:
    def __init__(self, policy: SyncPolicy, writer: IndexWriter, config: Config, reporter: Reporter, stop: Stop) -> None:
        self._started = time.monotonic()
        self._policy, self._writer, self._config = policy, writer, config
        self._reporter, self._stop = reporter, stop
        self._head = writer.index
        self._keypoints = KeypointsChoice(writer, config)
        self._model = ModelChoice(writer, config, reporter, self._keypoints, change_model=policy.change_model)
        self._models = {index.card.fingerprint for index in (writer.index, writer.staged) if index}
        self.generation = writer.index.manifest.generation if writer.index else 0

    def sync(self, images: str, check_content: bool, promote: bool) -> SyncSummary:
        catalog, unmatched = photos_of(self._config, images)
        self._model.begin(catalog)
        changes = find_changes(catalog, self._index.records, check_content=check_content)
        self._check_removed(changes)
        self._keypoints.begin()
        done = _Done(failures=list(catalog.failed))
        self._writer.revise(changes.revised, changes.replaced)
        if changes.fresh.any():
            self._describe(changes, done)
        if done.failures and len(done.failures) == len(catalog) + len(catalog.failed):
            _, path, reason = done.failures[-1]
            raise RelookError(f"none of the {len(done.failures)} images can be read; the first is {path}: {reason}")
        if not self._stop.reason:
            self._writer.delete(changes.removed)
            self._refresh_keypoints(done)
        if not self._stop.reason:
            self._finish(done, promote)
        self._writer.write_failures(done.failures)
        return self._summary(changes, done, unmatched)

    @property
    def _index(self) -> Index:
        index = self._writer.index
        assert index is not None
        return index

    def _check_removed(self, changes: Changes) -> None:
        if self._head is None:
            return
        gone = changes.removed | changes.replaced
        if self._index.card != self._head.card:  # a change of model, which replaces the whole index in the end
            gone = self._head.records.keys() - {record.id for record in changes.catalog}
        check_removed(gone, len(self._head.records), self._config.reindex.max_removed, changes.catalog.root)

    def _describe(self, changes: Changes, done: _Done) -> None:
        from pipeline.workflow.indexing.extraction import describe_changes

        self._keypoints.use()
        describer = self._model.describer()
        outcome = describe_changes(
            self._writer, describer, changes, self._config, self._reporter, self._stop, self._model.sample
        )
        done.added, done.changed = outcome.added, outcome.changed
        done.failures += outcome.failures

    def _refresh_keypoints(self, done: _Done) -> None:
        """Find the keypoints of images whose other descriptors stay, where what makes them has changed."""
        if not self._keypoints.missing:
            return
        from pipeline.workflow.indexing.keypoints_refresh import refresh_keypoints

        self._keypoints.use()
        done.keypoints, failures = refresh_keypoints(
            self._writer, self._keypoints.extractor, self._config, self._reporter, self._stop
        )
        done.failures += failures

    def _finish(self, done: _Done, promote: bool) -> None:
        """What ends a run that was not stopped."""
        policy, keep, size = self._policy, self._config.reindex.keep, self._config.extract.part_size
        if policy.tidy and small_parts(self._index.manifest.parts, size) > self._config.reindex.small_parts:
            done.folded = fold_parts(self._writer, size, tombstones=False)
        if self._writer.changing_model:
            self._fill_store(done, promote)
            self._writer.complete(keep)
        else:
            self._writer.complete(keep)
            self._fill_store(done, promote)
        if policy.tidy:
            self._writer.collect(keep)
            wrong = self._index.verify(quick=True)
            if wrong:
                raise RelookError(f"{wrong[0]}; return to an earlier generation with: relook reindex --rollback")

    def _fill_store(self, done: _Done, promote: bool) -> None:
        if self._policy.sync_store:
            done.store = fill_store(self._config, self._index, self._reporter, models=self._models, promote=promote)

    def _summary(self, changes: Changes, done: _Done, unmatched: int) -> SyncSummary:
        committed = Index(self._config.index)
        return SyncSummary(
            outcome="stopped" if self._stop.reason else "done",
            stopped=self._stop.reason,
            index=str(self._config.index),
            generation=committed.manifest.generation,
            model=self._model_state(committed),
            images=committed.manifest.counts["images"],
            added=done.added,
            changed=done.changed,
            moved=changes.moved,
            relabelled=changes.relabelled,
            removed=len(changes.replaced) + (0 if self._stop.reason else len(changes.removed)),
            equal=changes.equal + changes.touched,
            failed=len(done.failures),
            ignored=changes.catalog.ignored,
            unmatched=unmatched,
            keypoints=done.keypoints,
            folded=done.folded,
            seconds=round(time.monotonic() - self._started, 2),
            weights=committed.card.weights,
            store=done.store,
        )

    def _model_state(self, committed: Index) -> str:
        if self._writer.staged is not None:
            return "changing"
        before = self._head
        return "changed" if before and before.card.fingerprint != committed.card.fingerprint else "same"
