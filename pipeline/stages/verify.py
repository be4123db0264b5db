"""`verify`: compare an index with its store, and repair the store.

Both are streamed part by part, so that memory does not grow with the collection; a repair makes the fewest writes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.stores import Index
from pipeline.types import GlobalDescriptors, VectorStore
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.progress import Reporter, Silent
from pipeline.workflow.store_sync.comparison import Compared, compare_parts, compare_rows, extra_ids, own_parts
from pipeline.workflow.store_sync.sync import wait_until_settled
from pipeline.workflow.store_sync.vector_removal_guard import Removals

# Ids that a result names per kind of difference.
_EXAMPLES = 5


@dataclass
class VerifyResult:
    """The differences; counts are of vectors, as the writes that make the store equal.

    Attributes:
        store: the kind of store.
        compared: vectors of the index that were compared.
        added, changed, removed: vectors that the store lacks, that differ in it, and that only it has; None: a sample
            does not count the last.
        equal: compared vectors that do not differ.
        index_count, store_count: vectors in the index and in the store.
        damaged: files of the index that differ from the manifest, and globals that have other ids than their catalog,
            one line each.
        store_damaged: damaged files that the store makes from its vectors, one line each; a sample does not read them.
        other_models: vectors in the store by other fingerprints.
        examples: a few ids of each kind.
        repaired: whether the writes were made, and damaged files of the store made again.
    """

    store: str
    fingerprint: str
    compared: int = 0
    added: int = 0
    changed: int = 0
    removed: int | None = 0
    equal: int = 0
    index_count: int = 0
    store_count: int = 0
    damaged: list[str] = field(default_factory=list)
    store_damaged: list[str] = field(default_factory=list)
    other_models: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    repaired: bool = False
    seconds: float = 0.0

    @property
    def differs(self) -> bool:
        """Whether index and store differ in what was compared, or one of them is damaged."""
        left = not self.repaired and (self.added or self.changed or self.removed or self.store_damaged)
        return bool(self.damaged or left or self.index_count != self.store_count)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self)


def verify(
    config: Config, sample: int | None = None, repair: bool = False, reporter: Reporter | None = None
) -> VerifyResult:
    """Compare an index with its store.

    Args:
        config: `index`, `store`, `seed` and `reindex.max_removed` are used.
        sample: number of vectors to compare, chosen at random, with the counts and the lengths of files; None:
            everything, with checksums and ids that only the store has.
        repair: make damaged files of the store again, write what it lacks or what differs, delete what only it has.
        reporter: told about the progress.

    Raises:
        RelookError: index or store cannot be read; or, with `repair`, the index is damaged, or more than
            `reindex.max_removed` of the store would be deleted: nothing is written then.
    """
    started = time.monotonic()
    reporter = reporter or Silent()
    gallery = open_gallery(config, searched=False)
    index, store = gallery.index, gallery.store
    result = VerifyResult(config.store.kind, index.card.fingerprint, index_count=index.manifest.counts["images"])
    chosen = _chosen(index, sample, config.seed)
    # A sample does not read every byte of a large index.
    result.damaged = index.verify() if chosen is None else index.verify(quick=True) or index.differing_ids(chosen)
    if not result.damaged:
        whole = chosen is None and not store.index_backed
        result.store_damaged = store.damaged_files() if whole else []
        with _extra(result, index, store) if whole else Removals(()) as removals:
            if chosen is not None and not store.index_backed:
                result.removed = None
            if repair:
                removals.check(config.store.kind, store, store.stats()["count"], config.reindex.max_removed)
                if result.store_damaged:
                    store.rebuild()
            _compare(result, index, store, chosen, repair, reporter)
            if repair and (result.added or result.changed or result.removed or result.store_damaged):
                for ids in removals:
                    store.delete(ids)
                wait_until_settled(store, result.index_count, reporter)
                result.repaired = sample is None
        result.store_count = int(store.stats()["count"])
        result.other_models = {
            name: count for name, count in store.namespaces().items() if name != result.fingerprint and count
        }
    elif repair:
        raise RelookError(
            f"{result.damaged[0]}; a store cannot be repaired from a damaged index; extract into a new --index"
        )
    result.seconds = round(time.monotonic() - started, 2)
    return result


def _chosen(index: Index, sample: int | None, seed: int) -> dict[str, list[int]] | None:
    """Numbers of the living rows to compare, by part; None: all of them."""
    if sample is None:
        return None
    living = [(part.name, part.rows - len(part.deleted)) for part in index.manifest.parts]
    ends = np.cumsum([count for _, count in living])
    total = int(ends[-1]) if len(ends) else 0
    rows = np.sort(np.random.default_rng(seed).choice(total, min(sample, total), replace=False))
    groups = np.split(rows, np.searchsorted(rows, ends[:-1]))
    starts = ends - [count for _, count in living]
    return {
        name: (group - start).tolist()
        for (name, _), group, start in zip(living, groups, starts, strict=True)
        if len(group)
    }


def _compare(
    result: VerifyResult,
    index: Index,
    store: VectorStore,
    chosen: dict[str, list[int]] | None,
    repair: bool,
    reporter: Reporter,
) -> None:
    total = result.index_count if chosen is None else sum(map(len, chosen.values()))
    with reporter.bar("verify", total, "vectors") as bar:
        for compared in _comparisons(index, store, chosen):
            rows = compared.rows
            result.compared += len(rows)
            result.added += len(compared.missing)
            result.changed += len(compared.changed)
            _remember(result, "added", [rows.ids[row] for row in compared.missing])
            _remember(result, "changed", [rows.ids[row] for row in compared.changed])
            if repair and compared.wrong:
                wrong = rows.rows(compared.wrong)
                store.upsert(GlobalDescriptors(wrong.ids, wrong.vectors), wrong.metadata)
            bar.advance(len(rows), f"{result.added + result.changed} differ")
    result.equal = result.compared - result.added - result.changed


def _comparisons(index: Index, store: VectorStore, chosen: dict[str, list[int]] | None) -> Iterator[Compared]:
    if store.index_backed:
        return _own(index, chosen)
    if chosen is None:
        return compare_parts(index, store)
    parts = [part for part in index.manifest.parts if part.name in chosen]
    return (compare_rows(part.name, index.globals_of(part).rows(chosen[part.name]), store) for part in parts)


def _own(index: Index, chosen: dict[str, list[int]] | None) -> Iterator[Compared]:
    for compared in own_parts(index, chosen):
        yield replace(compared, rows=compared.rows.rows(chosen[compared.part])) if chosen else compared


def _extra(result: VerifyResult, index: Index, store: VectorStore) -> Removals:
    """The ids that only the store has, counted in the result."""

    def batches() -> Iterator[list[str]]:
        for batch in extra_ids(index, store):
            _remember(result, "removed", batch)
            yield batch

    removals = Removals(batches())
    result.removed = removals.count
    return removals


def _remember(result: VerifyResult, kind: str, ids: list[str]) -> None:
    kept = result.examples.setdefault(kind, [])
    kept += ids[: _EXAMPLES - len(kept)]
