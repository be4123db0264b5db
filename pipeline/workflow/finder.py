"""Candidates of queries from the store: those that count, as many as are wanted; and the further searches of a chain.

Below `searching.py`. A store may hold more than the generation that is searched, and a query may be in the gallery.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.files import Place
from pipeline.rerank.chain import Search
from pipeline.types import Candidates, FloatArray, FurtherSearch, ImageRecord
from pipeline.workflow.opened_index import OpenedIndex, check_store
from pipeline.workflow.query_inputs import Query

logger = logging.getLogger("relook")

Find = Callable[[Sequence[int], FloatArray, int], Sequence[Sequence[str]]]


def merged_searches(find: Find) -> Search:
    """Further searches of a chain, all of them at once.

    Args:
        find: from the numbers of queries, one vector [n, D] for each of them, and a count to as many ids per vector.
    """

    def search(wanted: Sequence[FurtherSearch]) -> list[list[str]]:
        owners = [number for number, one in enumerate(wanted) for _ in one.vectors]
        found: list[list[str]] = [[] for _ in wanted]
        if owners:
            vectors = np.concatenate([one.vectors for one in wanted if len(one.vectors)])
            count = max(one.count or 1 for one in wanted)
            for number, ids in zip(owners, find(owners, vectors, count), strict=True):
                found[number] += ids
        return found

    return search


class Finder:
    """Candidates that are in the generation that is searched, and are not the query itself.

    Args:
        gallery: what is searched.
        where: see `Gallery.search`.
        skip_itself: see `Gallery.search`.
    """

    def __init__(self, gallery: OpenedIndex, where: Mapping[str, Sequence[str]] | None, skip_itself: bool) -> None:
        self._gallery, self._where, self._skip_itself = gallery, where, skip_itself

    def find(self, queries: Sequence[Query], vectors: FloatArray, depth: int) -> Candidates:
        """At most `depth` candidates of each query, nearest to its row of `vectors` [Q, D]."""
        extra = 1 if self._skip_itself else 0
        found = self._gallery.store.query(vectors, depth + extra, self._where)
        self._check_whole(min(len(names) for names, _ in found), depth + extra)
        ids, scores = [], []
        for number, (names, values) in enumerate(found):
            kept, values = self._enough(queries[number], vectors[number : number + 1], names, values, depth, extra)
            ids.append(kept)
            scores.append(values)
        return Candidates([query.name for query in queries], ids, scores)

    def _check_whole(self, fewest: int, wanted: int) -> None:
        """A store that was emptied since it was opened is an error, one that has lost vectors is warned of.

        Only where there are too few results, which is cheap to notice; under a filter where there are none.
        """
        gallery = self._gallery
        expected = min(wanted, gallery.index.manifest.counts["images"]) if not self._where else 1
        if fewest < expected:
            check_store(gallery.config.store.kind, gallery.index, gallery.store, "warn")

    def _enough(
        self, query: Query, vector: FloatArray, names: list[str], values: FloatArray, depth: int, extra: int
    ) -> tuple[list[str], FloatArray]:
        """More candidates are read until enough of them count, or there are no more."""
        while True:
            rows = np.flatnonzero(self._counts(query, names))
            wanted = depth + extra
            if len(rows) >= depth or len(names) < wanted:
                rows = rows[:depth]
                return [names[row] for row in rows], values[rows]
            extra = 2 * (wanted - len(rows)) + extra
            names, values = self._gallery.store.query(vector, depth + extra, self._where)[0]

    def _counts(self, query: Query, names: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which candidates count. A store that is being synced may have images that this generation does not."""
        index = self._gallery.index
        counts = np.ones(len(names), np.bool_) if self._gallery.store.index_backed else index.has(names)
        if not counts.all():
            logger.info("%s: %d candidates are of another generation of the index", index.directory, (~counts).sum())
        if self._skip_itself:
            known = np.flatnonzero(counts)
            own = self._own(query, index.find_records([names[row] for row in known.tolist()]))
            counts[known[own]] = False
        return counts

    def _own(self, query: Query, records: Sequence[ImageRecord]) -> npt.NDArray[np.bool_]:
        """Which records are of the query's own file, or are the query."""
        index = self._gallery.index
        file = query.file
        if query.id:
            file = index.image_file(index.find_records([query.id])[0])
        resolved = None if file is None else file.resolve()
        return np.array(
            [record.id == query.id or _is_file(index.image_file(record), resolved) for record in records], np.bool_
        )


def _is_file(path: Place, resolved: Place | None) -> bool:
    return resolved is not None and path.resolve() == resolved
