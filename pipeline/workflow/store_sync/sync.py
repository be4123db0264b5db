"""Sync of a vector store with an index: what is missing or differs is sent, what the index no longer has is deleted.

The work of `upload`, for every store but the index's own tables. It can be interrupted anywhere: the next run sends
only what is still missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from pipeline.errors import RelookError
from pipeline.faults import fault_point
from pipeline.files import sha256_of
from pipeline.stores import Index
from pipeline.stores.index.manifest import Part
from pipeline.types import GlobalDescriptors, HostedStore, VectorStore, WriteCost, is_hosted
from pipeline.workflow.progress import Reporter
from pipeline.workflow.shares import share_of
from pipeline.workflow.store_sync.comparison import CHUNK, Compared, compare_parts, extra_ids
from pipeline.workflow.store_sync.journal import Journal
from pipeline.workflow.store_sync.vector_removal_guard import Removals


@dataclass(frozen=True)
class SyncCounts:
    """Numbers of vectors that were written or deleted, and the cost of writing them (none but for a hosted store)."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    cost: WriteCost = field(default_factory=WriteCost)

    def __add__(self, other: SyncCounts) -> SyncCounts:
        """The sums of both."""
        return SyncCounts(
            self.added + other.added,
            self.changed + other.changed,
            self.removed + other.removed,
            self.cost + other.cost,
        )


def sync_store(kind: str, index: Index, store: VectorStore, reporter: Reporter, max_removed: float) -> SyncCounts:
    """Bring the store to the state of the index, and wait until that can be read.

    Args:
        kind: the store's name, for the journal.
        index: one generation.
        store: opened for it.
        reporter: told about the progress.
        max_removed: share of the store's vectors that may be deleted, in [0, 1].

    Raises:
        RelookError: a part is damaged, more than `max_removed` of the store would be deleted (nothing is written
            then), the store refuses something, or its count is wrong in the end.
    """
    if is_hosted(store):
        store.prepare()
    journal = _journal(kind, index, store)
    if journal:
        journal.take_shares()
    parts, count = index.manifest.parts, index.manifest.counts["images"]
    before = store.stats()["count"]
    new = _is_new(journal, before)
    if journal and before < sum(part.rows - len(part.deleted) for part in journal.known(parts)):
        journal.forget()
    synced = SyncCounts()
    for _ in range(2):
        with Removals(_extra(index, store, journal) if before else ()) as removals:
            removals.check(kind, store, before, max_removed)
            synced += _send(index, store, journal, reporter, new)
            synced += _remove(store, removals, reporter)
        counted = wait_until_settled(store, count, reporter)
        if counted == count:
            if journal:
                journal.complete(parts)
            return synced
        # The journal is wrong, or something else wrote to the store: compare everything.
        before, new = counted, False
        if journal:
            journal.forget()
    raise RelookError(f"the store counts {counted} vectors where the index has {count}; run: relook upload again")


def send_share(
    kind: str, index: Index, store: HostedStore, reporter: Reporter, number: int, count: int
) -> tuple[SyncCounts, int]:
    """Write what the store lacks, or has otherwise, of one share of the index's parts; nothing is deleted.

    Shares may run at the same time. `sync_store` afterwards deletes, waits and counts; it sends what a share has not.

    Args:
        kind, index, store, reporter: see `sync_store`.
        number, count: this is the share `number` of `count`, from 1.

    Returns:
        What was written, and the vectors of the share.

    Raises:
        RelookError: a part is damaged, or the store refuses something.
    """
    store.prepare()
    journal = Journal(index.directory, kind, store.place(), f"{number}-of-{count}")
    whole = Journal(index.directory, kind, store.place())
    mine = share_of(index.manifest.parts, number, count)
    new = whole.empty and _is_new(journal, store.stats()["count"])
    left = {part.name for part in mine} - {part.name for part in whole.known(mine)}
    others = [part.name for part in index.manifest.parts if part.name not in left]
    sent = _send(index, store, journal, reporter, new, others)
    return sent, sum(part.rows - len(part.deleted) for part in mine)


def plan_sync(kind: str, index: Index, store: VectorStore) -> SyncCounts:
    """What `sync_store` would write and delete now; nothing is written."""
    journal = _journal(kind, index, store)
    planned, before = SyncCounts(), store.stats()["count"]
    for compared in compare_parts(index, store, _names(journal, index), new=_is_new(journal, before)):
        planned += _counted(store, compared)
    for ids in _extra(index, store, journal) if before else ():
        # To delete a record costs as much as writing it.
        units = store.cost(store.read(ids)).units if is_hosted(store) else 0
        planned += SyncCounts(removed=len(ids), cost=WriteCost(units=units))
    return planned


def _journal(kind: str, index: Index, store: VectorStore) -> Journal | None:
    """The journal of a hosted store; others are compared quickly without one."""
    return Journal(index.directory, kind, store.place()) if is_hosted(store) else None


def _is_new(journal: Journal | None, count: int) -> bool:
    """Whether the store is known to be empty, so that nothing has to be compared.

    The count of a service follows its writes by seconds: where the journal says that something was sent, it is not
    trusted.
    """
    return not count and (journal is None or journal.empty)


def _names(journal: Journal | None, index: Index) -> list[str]:
    return [part.name for part in journal.known(index.manifest.parts)] if journal else []


def _send(
    index: Index,
    store: VectorStore,
    journal: Journal | None,
    reporter: Reporter,
    new: bool,
    others: Sequence[str] = (),
) -> SyncCounts:
    """Write what the store lacks or has otherwise, part by part; not those of the names `others`."""
    skip, parts = {*_names(journal, index), *others}, {part.name: part for part in index.manifest.parts}
    total = sum(part.rows - len(part.deleted) for part in parts.values() if part.name not in skip)
    synced, current = SyncCounts(), ""
    with reporter.bar("upload", total, "vectors") as bar:
        for compared in compare_parts(index, store, skip, new=new):
            if compared.part != current:
                if journal and current:
                    journal.add(parts[current])
                current = compared.part
                _check_whole(index, parts[current])
                if journal:
                    journal.begin(parts[current])
            synced += _counted(store, compared)
            if compared.wrong:
                rows = compared.rows.rows(compared.wrong)
                fault_point("sending")
                store.upsert(GlobalDescriptors(rows.ids, rows.vectors), rows.metadata)
                fault_point("sent")
            bar.advance(len(compared.rows))
    if journal and current:
        journal.add(parts[current])
    return synced


def _remove(store: VectorStore, removals: Removals, reporter: Reporter) -> SyncCounts:
    """Delete what the index no longer has."""
    removed = 0
    with reporter.bar("delete", removals.count, "vectors") as bar:
        for ids in removals:
            fault_point("deleting")
            removed += store.delete(ids)
            fault_point("deleted")
            bar.advance(len(ids))
    return SyncCounts(removed=removed)


def _extra(index: Index, store: VectorStore, journal: Journal | None) -> Iterator[list[str]]:
    """Ids that only the store has. Where the journal knows all that was sent, the store is not listed."""
    parts = index.manifest.parts
    shrunk = journal.shrunk(parts) if journal else None
    if shrunk is None:
        yield from extra_ids(index, store)
        return
    dead = {name for part in shrunk for name in index.deleted_ids(part)}
    for part in parts if dead else ():
        dead.difference_update(index.ids_of(part))  # deleted in one part, present in another
    names = sorted(dead)
    for first in range(0, len(names), CHUNK):
        found = list(store.read(names[first : first + CHUNK]).ids)
        if found:
            yield found


def wait_until_settled(store: VectorStore, count: int, reporter: Reporter) -> int:
    """Wait until the writes can be read; returns the store's count of vectors."""
    if not is_hosted(store):
        counted: int = store.stats()["count"]
        return counted
    with reporter.bar("waiting", count, "vectors") as bar:
        seen = 0

        def tick(now: int) -> None:
            nonlocal seen
            bar.advance(now - seen)
            seen = now

        return store.settle(count, tick)


def _counted(store: VectorStore, compared: Compared) -> SyncCounts:
    missing, changed = compared.missing, compared.changed
    cost = WriteCost()
    if is_hosted(store) and compared.wrong:
        # Replacing a record also costs what the old one did.
        cost = store.cost(compared.rows.rows(compared.wrong))
        cost = replace(cost, units=cost.units + store.cost(compared.rows.rows(changed)).units)
    return SyncCounts(len(missing), len(changed), 0, cost)


def _check_whole(index: Index, part: Part) -> None:
    """Raises RelookError for a part whose content is not what was written: nothing of it is sent."""
    file = part.files["globals"]
    path = index.directory / file.path
    with suppress(OSError):
        if sha256_of(path) == file.sha256:
            return
    raise RelookError(f"{path}: missing or damaged (its checksum differs); extract into a new --index")
