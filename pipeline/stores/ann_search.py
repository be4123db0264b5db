"""One query of the embedded approximate store: candidates from the lists, then their exact cosines.

Below `ann_store.py`. Vectors that are in no list yet are compared one by one. A candidate's vector is read from the
records, so scores are those of an exact store, and equal ones go by id.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pipeline.stores.ann_lists import Lists
from pipeline.stores.ann_records import Records, Rows
from pipeline.stores.ann_upkeep import NEAREST
from pipeline.stores.flat import FlatVectors
from pipeline.types import FloatArray

Queries = npt.NDArray[np.float64]
Answer = tuple[list[str], FloatArray]

# Queries searched at once, while what is kept for them stays small.
_BLOCK = 64
# Candidates beyond the answers, at first: half as many again, and these.
_SPARE = 32
# Where the last candidate may be as near as the last answer, so many times more are looked at.
_MORE = 4


class Snapshot:
    """One state of the records and their lists; made and asked inside `Records.reading` of that state.

    Raises:
        RelookError: a file is damaged.
        MissingListsError: one is not there (any more).
    """

    def __init__(self, records: Records) -> None:
        self._records, self._state, self._count = records, records.state(), records.count()
        self._lists = Lists(records.path.parent, self._state) if self._state.segments else None

    def nearest(self, queries: Queries, top_k: int, among: Rows | None) -> list[Answer]:
        """The nearest of each query.

        Args:
            queries: [Q, D] of unit length.
            top_k: how many.
            among: ascending rows to search; None: all.

        Returns:
            Q pairs of ids and cosines, descending; equal ones by id.
        """
        top_k = min(top_k, self._count if among is None else len(among))
        if top_k == 0:
            return [([], np.zeros(0, np.float32)) for _ in queries]
        answers: list[Answer] = []
        for start in range(0, len(queries), _BLOCK):
            block = queries[start : start + _BLOCK]
            unlisted = self._unlisted(block, top_k, among)
            if self._lists is None:
                answers += [self._scored(query, rows, top_k) for query, rows in zip(block, unlisted, strict=True)]
            else:
                answers += self._listed(block, top_k, among, unlisted)
        return answers

    def _listed(self, queries: Queries, top_k: int, among: Rows | None, unlisted: list[Rows]) -> list[Answer]:
        """What the lists and the rows beside them hold; all queries visit the lists at once."""
        assert self._lists is not None
        # More answers, or answers among fewer rows, lie in a wider neighbourhood than the one that was measured.
        share = 1.0 if among is None else len(among) / self._count
        probes = min(self._state.lists, math.ceil(self._state.probes * max(1.0, top_k / NEAREST) / share))
        wanted, mask = top_k + max(top_k // 2, _SPARE), self._mask(among)
        found = zip(*self._lists.search(queries.astype(np.float32), wanted, probes, mask), strict=True)
        answers = []
        for query, rest, (near, rows) in zip(queries, unlisted, found, strict=True):
            hits, visited, asked = (near, rows), probes, wanted
            while True:
                near, rows = hits
                answer = self._scored(query, np.concatenate([rows[rows >= 0], rest]), top_k)
                if len(answer[0]) < top_k and visited < self._state.lists:
                    visited = self._state.lists  # what a filter leaves may all lie in other lists
                elif rows[-1] >= 0 and near[-1] > answer[1][-1] - self._lists.error:
                    asked *= _MORE  # whatever is behind the last candidate may be as near as the last answer
                else:
                    break
                near_all, rows_all = self._lists.search(query[None].astype(np.float32), asked, visited, mask)
                hits = near_all[0], rows_all[0]
            answers.append(answer)
        return answers

    def _unlisted(self, queries: Queries, top_k: int, among: Rows | None) -> list[Rows]:
        """The best of the rows that are in no list, of each query."""
        rows, vectors = self._waiting
        chosen = None if among is None else np.flatnonzero(np.isin(rows, among))
        return [rows[best] for best, _ in vectors.nearest(queries, top_k, chosen)]

    def _scored(self, query: npt.NDArray[np.float64], candidates: Rows, top_k: int) -> Answer:
        _, names, vectors = self._records.numbered(candidates)
        ((best, scores),) = FlatVectors(vectors, np.arange(len(names))).nearest(query[None], top_k)
        return [names[row] for row in best], scores

    @cached_property
    def _waiting(self) -> tuple[Rows, FlatVectors]:
        """The rows that are in no list, sorted by id, so that equal scores go by it."""
        rows, names, vectors = self._records.numbered(self._records.rows(self._state.covered + 1))
        return rows, FlatVectors(vectors, np.arange(len(names)))

    def _mask(self, among: Rows | None) -> npt.NDArray[np.uint8] | None:
        """Which listed rows to look at, a bit each; None: all."""
        if among is None:
            return self._alive
        bits = np.zeros(self._state.covered + 1, np.bool_)
        bits[among[among <= self._state.covered]] = True
        return np.packbits(bits, bitorder="little")

    @cached_property
    def _alive(self) -> npt.NDArray[np.uint8] | None:
        dead = self._records.dead()
        if not len(dead):
            return None
        bits = np.ones(self._state.covered + 1, np.bool_)
        bits[dead] = False
        return np.packbits(bits, bitorder="little")
