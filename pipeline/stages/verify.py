"""`verify`: does the store hold what the index holds?

Streams the index part by part beside the store, so memory does not grow with the collection; mends with the fewest
writes when asked to.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
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

# Ids that a result names of each kind of difference.
_EXAMPLES = 5
# Batches of ids that are forgotten before the store is listed again.
_BATCHES = 100


@dataclass
class VerifyResult:
    """What differs; counts are of vectors, as the writes that make the store equal.

    Attributes:
        store: the kind of store.
        compared: vectors of the index that were looked at.
        added, changed, removed: what the store lacks, holds otherwise, and has too much; a sample does not look for the
            last, which is None.
        equal: of the compared ones.
        index_count, store_count: how many vectors both hold.
        damaged: files of the index that are not what the manifest says, one line each.
        other_models: vectors in the store of other fingerprints.
        examples: a few ids of each kind.
        repaired: whether the writes were made.
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
    other_models: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    repaired: bool = False
    seconds: float = 0.0

    @property
    def differs(self) -> bool:
        """Whether index and store differ in what was looked at, or the index is damaged."""
        left = not self.repaired and (self.added or self.changed or self.removed)
        return bool(self.damaged or left or self.index_count != self.store_count)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self)


def verify(
    config: Config, sample: int | None = None, repair: bool = False, reporter: Reporter | None = None
) -> VerifyResult:
    """Compare an index with its store.

    Args:
        config: `index`, `store` and `seed` matter here.
        sample: look at so many vectors, chosen at random, at the counts and at the lengths of files; None: at
            everything, also at checksums and for ids that only the store has.
        repair: write what the store lacks or holds otherwise, forget what it has too much.
        reporter: told about the progress.

    Raises:
        RelookError: index or store cannot be read, or the index is damaged and was to be repaired from.
    """
    started = time.monotonic()
    reporter = reporter or Silent()
    gallery = open_gallery(config, searched=False)
    index, store = gallery.index, gallery.store
    result = VerifyResult(config.store.kind, index.card.fingerprint, index_count=index.manifest.counts["images"])
    # A sample must not read every byte of a large index, only to look at some of its vectors.
    result.damaged = index.verify(quick=sample is not None)
    if not result.damaged:
        _compare(result, index, store, _chosen(index, sample, config.seed), repair, reporter)
        if store.index_backed:
            result.removed = 0  # it is the index
        elif sample is None:
            _look_for_extra(result, index, store, repair)
        else:
            result.removed = None
        if repair and (result.added or result.changed or result.removed):
            wait_until_settled(store, result.index_count, reporter)
            result.repaired = sample is None
        result.store_count = int(store.stats()["count"])
        result.other_models = {
            name: count for name, count in store.namespaces().items() if name != result.fingerprint and count
        }
    elif repair:
        raise RelookError(f"{result.damaged[0]}; a damaged index cannot mend a store: extract again")
    result.seconds = round(time.monotonic() - started, 2)
    return result


def _chosen(index: Index, sample: int | None, seed: int) -> dict[str, list[int]] | None:
    """Of each part the numbers of the living rows to look at; None: all of them."""
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


def _look_for_extra(result: VerifyResult, index: Index, store: VectorStore, repair: bool) -> None:
    """Count ids that only the store has, and forget them when asked to."""
    result.removed = 0
    while True:
        # A store must not be listed while it changes: so many ids are taken, the listing ends, then they are forgotten.
        batches = list(islice(extra_ids(index, store), _BATCHES)) if repair else extra_ids(index, store)
        last = 0
        for batch in batches:
            last += 1
            result.removed += len(batch)
            _remember(result, "removed", batch)
            if repair:
                store.delete(batch)
        if not repair or last < _BATCHES:
            return


def _remember(result: VerifyResult, kind: str, ids: list[str]) -> None:
    kept = result.examples.setdefault(kind, [])
    kept += ids[: _EXAMPLES - len(kept)]
