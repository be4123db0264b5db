"""The end of a divided extraction: everything that its shards wrote becomes part of the index, in one commit.

Nothing is described and no photo is read, and the parts are linked rather than copied. A process killed anywhere
leaves the index as it was or as it will be; joining again ends it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.stores import Index, IndexWriter
from pipeline.stores.index.manifest import NAME, PartKind
from pipeline.stores.index.shards import ShardPlan, Shards
from pipeline.workflow.bucket_index import shown_index
from pipeline.workflow.indexing.changes import find_changes
from pipeline.workflow.indexing.engine import SyncSummary
from pipeline.workflow.indexing.photos import photos_of
from pipeline.workflow.indexing.sharding.exchange import exchange_of
from pipeline.workflow.indexing.sharding.planning import is_current
from pipeline.workflow.indexing.sharding.shard_states import shard_state

logger = logging.getLogger("relook")

_SHOWN = 4


def join_shards(config: Config) -> SyncSummary:
    """Commit what the shards of an index wrote, and remove their folder.

    What has changed among the photos since they were listed is counted and said; the next run describes it.

    Args:
        config: `index` and `reindex.keep` matter here; the photos are those of the shards.

    Raises:
        LockedError: another run holds the index's lock.
        RelookError: there are no shards, some are not done (the message has the commands), the index has changed since
            they were begun, or none of the photos could be read.
    """
    started, exchange = time.monotonic(), exchange_of(config.index)
    with exchange.named():
        with exchange.joining() as directory:
            shards = Shards(directory)
            plan = _plan(shards)
            with IndexWriter(directory) as writer:
                join = _Join(writer, shards, plan, exchange.kinds)
                join.commit(config.reindex.keep)
                summary = replace(join.summary(started), index=shown_index(config))
                writer.write_failures(join.failures)
                writer.write_report("extract", summary.to_json(), changed=True)
                shards.remove()
        _compare(config, plan, Index(directory), {name for name, _, _ in join.failures})
    return summary


def unjoined_summary(directory: Path, plan: ShardPlan, stopped: str, started: float) -> SyncSummary:
    """What a run says that has committed nothing (yet)."""
    index = Index(directory)
    return SyncSummary(
        outcome="stopped" if stopped else "done",
        stopped=stopped,
        index=str(directory),
        generation=index.manifest.generation,
        model="same",
        images=index.manifest.counts["images"],
        added=0,
        changed=0,
        moved=0,
        relabelled=0,
        removed=0,
        equal=plan.counts["equal"],
        failed=0,
        ignored=plan.counts["ignored"],
        unmatched=plan.counts["unmatched"],
        keypoints=0,
        folded=0,
        seconds=round(time.monotonic() - started, 2),
        weights=index.card.weights,
    )


def _plan(shards: Shards) -> ShardPlan:
    plan = shards.plan()
    if plan is None:
        index = shards.directory.parent
        raise RelookError(
            f"{index}: there are no shards to join; begin with: relook extract PHOTOS --index {index} --shard 1/N"
        )
    return plan


class _Join:
    def __init__(self, writer: IndexWriter, shards: Shards, plan: ShardPlan, kinds: Collection[PartKind]) -> None:
        self._writer, self._shards, self._plan, self._kinds = writer, shards, plan, kinds
        assert writer.index is not None
        self._head = writer.index
        self._done = self._whole_shards()
        self.failures = [*plan.failed, *(row for shard in self._done for row in shard.failure_rows())]
        self._ids = {name for shard in self._done for name in shard.records}
        known = self._head.records.keys()
        self._changed = len(self._ids & known)

    def commit(self, keep: int) -> None:
        """One commit, unless a join that was killed has made it."""
        plan, head, place = self._plan, self._head, self._shards.directory
        if not is_current(plan, head):
            if not self._is_joined():
                raise RelookError(
                    f"{place}: the index has changed since the shards were begun ({plan.began}), so they are not "
                    "joined; remove it to begin again"
                )
            self._writer.complete(keep)
            return
        if self.failures and len(self.failures) == plan.counts["images"] + len(plan.failed):
            _, path, reason = self.failures[-1]
            raise RelookError(f"none of the {len(self.failures)} images can be read; the first is {path}: {reason}")
        revised, gone = self._shards.revised(plan), self._shards.gone(plan)
        if self._ids or revised or gone:
            self._writer.adopt(self._done, revised, gone, self._kinds)
        self._writer.complete(keep)

    def summary(self, started: float) -> SyncSummary:
        """Counts as of a run that was not divided."""
        counts = self._plan.counts
        summary = unjoined_summary(self._writer.directory, self._plan, "", started)
        return replace(
            summary,
            added=len(self._ids) - self._changed,
            changed=self._changed,
            moved=counts["moved"],
            relabelled=counts["relabelled"],
            removed=counts["removed"],
            failed=len(self.failures),
        )

    def _whole_shards(self) -> list[Index]:
        """The folders of all shards. Raises RelookError where one is not done, or is of another model."""
        plan, found, missing = self._plan, list[Index](), list[int]()
        for number in range(1, plan.shards + 1):
            folder = self._shards.folder(plan, number)
            shard = Index(folder) if (folder / NAME).exists() else None
            if shard is None or not shard.manifest.complete:
                missing.append(number)
                continue
            if shard.manifest.fingerprint != plan.fingerprint:
                raise RelookError(f"{folder}: of another model than the other shards; remove it and run it again")
            if shard.manifest.keypoints != self._head.manifest.keypoints:
                raise RelookError(
                    f"{folder}: its keypoints have other weights than those of the index; remove it and run it again"
                )
            found.append(shard)
        if missing:
            raise RelookError(self._unfinished(missing))
        return found

    def _unfinished(self, missing: Sequence[int]) -> str:
        plan, index = self._plan, self._writer.directory
        shown = missing[:_SHOWN]
        states = ", ".join(str(shard_state(self._shards, plan, number)) for number in shown)
        commands = "; ".join(
            f"relook extract {plan.source} --index {index} --shard {number}/{plan.shards}" for number in shown
        )
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        return f"{self._shards.directory}: shards that are not done: {states}{more}; run: {commands}{more}"

    def _is_joined(self) -> bool:
        """Whether the index has everything that the shards have: a join was killed after its commit."""
        known = self._head.records
        described = (record for shard in self._done for record in shard.records.values())
        revised = self._shards.revised(self._plan).values()
        return all(known.get(record.id) == record for record in (*described, *revised)) and known.keys().isdisjoint(
            set(self._shards.gone(self._plan)) - {record.id for record in revised} - self._ids
        )


def _compare(config: Config, plan: ShardPlan, index: Index, failed: set[str]) -> None:
    """Say what has changed among the photos since the shards were begun."""
    section = type(config.catalog).model_validate({**plan.settings["catalog"], "images": plan.source})
    try:
        catalog, _ = photos_of(config.model_copy(update={"catalog": section}), plan.source)
    except RelookError as error:
        logger.warning("%s; what has changed since %s is not known", error, plan.began)
        return
    changes = find_changes(catalog, index.records)
    fresh = sum(record.id not in failed for record in changes.todo())
    if fresh or changes.removed:
        logger.warning(
            "%s: since the shards were begun (%s) %d photos came or changed and %d went; bring the index up to date "
            "with: relook extract %s --index %s",
            catalog.root,
            plan.began,
            fresh,
            len(changes.removed),
            plan.source,
            shown_index(config),
        )
