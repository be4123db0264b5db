"""Making a vector store equal to an index: what is missing or differs is sent, what the index lost is deleted.

The work of `upload`, for every store but the index's own tables. It can be cut off anywhere and begun again: only what
is still missing is sent then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from pipeline.errors import RelookError
from pipeline.faults import fault_point
from pipeline.files import sha256_of
from pipeline.stores import Index
from pipeline.stores.index.manifest import Part
from pipeline.types import GlobalDescriptors, VectorStore, WriteCost, is_hosted
from pipeline.workflow.progress import Reporter
from pipeline.workflow.store_sync.comparison import CHUNK, Compared, compare_parts, extra_ids
from pipeline.workflow.store_sync.journal import Journal


@dataclass(frozen=True)
class SyncCounts:
    """How many vectors were written or deleted, and what writing them takes (nothing but for a hosted store)."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    cost: WriteCost = field(default_factory=WriteCost)

    def __add__(self, other: SyncCounts) -> SyncCounts:
        """Both together."""
        return SyncCounts(
            self.added + other.added,
            self.changed + other.changed,
            self.removed + other.removed,
            self.cost + other.cost,
        )


def sync_store(kind: str, index: Index, store: VectorStore, reporter: Reporter) -> SyncCounts:
    """Bring the store to the state of the index, and wait until that can be read.

    Args:
        kind: the store's name, for the journal.
        index: one generation.
        store: opened for it.
        reporter: told about the progress.

    Raises:
        RelookError: a part is damaged, the store refuses something, or its count is wrong in the end.
    """
    if is_hosted(store):
        store.prepare()
    journal = _journal(kind, index, store)
    parts, count = index.manifest.parts, index.manifest.counts["images"]
    before = store.stats()["count"]
    if journal and before < sum(part.rows - len(part.deleted) for part in journal.known(parts)):
        journal.forget()
    filled = SyncCounts()
    for _ in range(2):
        filled += _send(index, store, journal, reporter)
        if before or filled.removed:
            filled += _remove(index, store, journal, max(0, before + filled.added - count), reporter)
        counted = wait_until_settled(store, count, reporter)
        if counted == count:
            if journal:
                journal.complete(parts)
            return filled
        # What the journal says is not so, or something was written from elsewhere: compare everything.
        before = counted
        if journal:
            journal.forget()
    raise RelookError(f"the store counts {counted} vectors where the index has {count}; run: relook upload again")


def plan_sync(kind: str, index: Index, store: VectorStore) -> SyncCounts:
    """What `sync_store` would do now; nothing is written."""
    journal = _journal(kind, index, store)
    planned = SyncCounts()
    for compared in compare_parts(index, store, _names(journal, index)):
        planned += _counted(store, compared)
    for ids in _extra(index, store, journal) if store.stats()["count"] else ():
        # To delete a record costs what it did to write it.
        units = store.cost(store.read(ids)).units if is_hosted(store) else 0
        planned += SyncCounts(removed=len(ids), cost=WriteCost(units=units))
    return planned


def _journal(kind: str, index: Index, store: VectorStore) -> Journal | None:
    """Stores that are no service are compared in moments."""
    return Journal(index.directory, kind, store.place()) if is_hosted(store) else None


def _names(journal: Journal | None, index: Index) -> list[str]:
    return [part.name for part in journal.known(index.manifest.parts)] if journal else []


def _send(index: Index, store: VectorStore, journal: Journal | None, reporter: Reporter) -> SyncCounts:
    """Write what the store lacks, part by part."""
    skip, parts = _names(journal, index), {part.name: part for part in index.manifest.parts}
    total = sum(part.rows - len(part.deleted) for part in parts.values() if part.name not in skip)
    filled, current = SyncCounts(), ""
    with reporter.bar("upload", total, "vectors") as bar:
        for compared in compare_parts(index, store, skip):
            if compared.part != current:
                if journal and current:
                    journal.add(parts[current])
                current = compared.part
                _check_whole(index, parts[current])
                if journal:
                    journal.begin(parts[current])
            filled += _counted(store, compared)
            if compared.wrong:
                rows = compared.rows.rows(compared.wrong)
                fault_point("sending")
                store.upsert(GlobalDescriptors(rows.ids, rows.vectors), rows.metadata)
                fault_point("sent")
            bar.advance(len(compared.rows))
    if journal and current:
        journal.add(parts[current])
    return filled


def _remove(index: Index, store: VectorStore, journal: Journal | None, total: int, reporter: Reporter) -> SyncCounts:
    """Delete what the index no longer has: some `total`, as far as the store's count can be trusted."""
    removed = 0
    with reporter.bar("delete", total, "vectors") as bar:
        for ids in _extra(index, store, journal):
            fault_point("deleting")
            removed += store.delete(ids)
            fault_point("deleted")
            bar.advance(len(ids))
    return SyncCounts(removed=removed)


def _extra(index: Index, store: VectorStore, journal: Journal | None) -> Iterator[list[str]]:
    """Ids that the store has too much. Where the journal knows all that was sent, the store need not list its own."""
    parts = index.manifest.parts
    shrunk = journal.shrunk(parts) if journal else None
    if shrunk is None:
        yield from extra_ids(index, store)
        return
    dead = {name for part in shrunk for name in index.deleted_ids(part)}
    for part in parts if dead else ():
        dead.difference_update(index.ids_of(part))  # deleted there, and alive here
    names = sorted(dead)
    for first in range(0, len(names), CHUNK):
        found = list(store.read(names[first : first + CHUNK]).ids)
        if found:
            yield found


def wait_until_settled(store: VectorStore, count: int, reporter: Reporter) -> int:
    """Wait until what was written can be read; returns how many vectors the store counts."""
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
        # To replace a record costs what the old one did as well.
        cost = store.cost(compared.rows.rows(compared.wrong))
        cost = replace(cost, units=cost.units + store.cost(compared.rows.rows(changed)).units)
    return SyncCounts(len(missing), len(changed), 0, cost)


def _check_whole(index: Index, part: Part) -> None:
    """Nothing is sent of a part that is not what was once written."""
    file = part.files["globals"]
    path = index.directory / file.path
    with suppress(OSError):
        if sha256_of(path) == file.sha256:
            return
    raise RelookError(f"{path}: missing or damaged (its checksum differs); extract into a new --index")
