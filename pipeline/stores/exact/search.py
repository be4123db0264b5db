"""Exact search in an array of vectors: the hot path of the built-in table.

Two passes. The first multiplies block by block in float32 and keeps whatever may be among the best, given how far such
a product can be off; the second sums those few again in float64. Every vector is read once for 64 queries; the time is
that of the memory for one query and of the multiplications for many (benchmarks/search.py says how far from it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.stores.exact.blocks import Rows
from pipeline.stores.exact.scan import Scanner, open_scanner
from pipeline.stores.exact.streamed import VectorSource
from pipeline.types import FloatArray

# Queries that share one pass over the vectors, while what is kept for them stays small.
PASS_QUERIES = 64
_KEPT = 1 << 22
# Cosines are multiples of one over this: finer than float32 near 1, coarser than the errors of summing in float64.
_STEPS = 2.0**30
# Pairs that are summed again at once: 4,096 pairs of 2,048 values take 128 MB in float64.
_PAIRS = 4096


class Rank(Protocol):
    """Numbers by which rows are sorted."""

    def __getitem__(self, rows: Rows, /) -> npt.NDArray[np.integer]:
        """The numbers of some rows, comparable with each other."""


class FlatVectors:
    """Exact search in N vectors.

    Args:
        vectors: [N, D] float32 or float16, rows of about unit length; or what reads such rows in float32.
        rank: where each row's id stands: equal scores go by it. An array [N], or what gives as much for some rows.
        device: "cpu", or "cuda" for the first pass there.
    """

    def __init__(self, vectors: npt.NDArray[np.floating] | VectorSource, rank: Rank, device: str = "cpu") -> None:
        self.vectors, self._rank = vectors, rank
        self._scanner: Scanner = open_scanner(vectors, device)
        # Twice the error that a sum of D products in float32 can have, whatever its order: one may be too low while
        # the other is too high.
        self._slack = np.float32(2 * (vectors.shape[1] + 2) * np.finfo(np.float32).eps)

    def nearest(
        self, queries: npt.NDArray[np.float64], top_k: int, among: Rows | None = None
    ) -> list[tuple[Rows, FloatArray]]:
        """The best rows of each query.

        Args:
            queries: [Q, D] float64 of unit length.
            top_k: at least 1.
            among: rows to search, ascending; None: all.

        Returns:
            Q pairs of rows and their cosines, float32, descending; equal ones by `rank`.
        """
        count = len(self.vectors) if among is None else len(among)
        top_k = min(top_k, count)
        step = max(1, min(PASS_QUERIES, _KEPT // max(1, top_k)))
        found = []
        for start in range(0, len(queries), step):
            found += self._pass(queries[start : start + step], top_k, among)
        return found

    def _pass(self, queries: npt.NDArray[np.float64], top_k: int, among: Rows | None) -> list[tuple[Rows, FloatArray]]:
        if top_k == 0:
            return [(np.zeros(0, np.intp), np.zeros(0, np.float32)) for _ in queries]
        pools: list[_Pool] = []
        held = 0
        thresholds = np.full(len(queries), -np.inf, np.float32)
        limit = 2 * top_k * len(queries)
        margin = (top_k, self._slack)
        for block in self._scanner.scan(queries.astype(np.float32), thresholds, margin, among):
            pools.append(_Pool(*block))
            held += len(pools[-1].rows)
            if held <= limit:
                continue
            pool, lowest = _Pool.of(pools).best(top_k, len(queries))
            thresholds[:] = lowest - self._slack
            pool = pool.above(thresholds)
            if len(pool.rows) > 2 * _KEPT:  # more nearly equal vectors than can be kept: tell them apart now
                pool, lowest = self._exact(pool, queries).best(top_k, len(queries), self._rank)
                thresholds[:] = lowest - self._slack
                pool = pool.first(top_k, len(queries))
            pools, held = [pool], len(pool.rows)
            limit = 2 * max(held, top_k * len(queries))
        pool, lowest = _Pool.of(pools).best(top_k, len(queries))
        pool, _ = self._exact(pool.above(lowest - self._slack), queries).best(top_k, len(queries), self._rank)
        pool = pool.first(top_k, len(queries))
        ends = np.searchsorted(pool.queries, np.arange(1, len(queries)))
        return list(zip(np.split(pool.rows, ends), np.split(pool.scores, ends), strict=True))

    def _exact(self, pool: _Pool, queries: npt.NDArray[np.float64]) -> _Pool:
        """The same pairs, sorted by query, with cosines summed in float64 and rounded.

        Equal vectors have equal cosines in whatever company they are, also where the terms of the sum cancel out.
        """
        scores = np.empty(len(pool.rows), np.float32)
        first = np.searchsorted(pool.queries, np.arange(len(queries) + 1))
        for number, query in enumerate(queries):
            for start in range(first[number], first[number + 1], _PAIRS):
                part = slice(start, min(start + _PAIRS, first[number + 1]))
                sums = np.einsum("ij,j->i", self.vectors[pool.rows[part]].astype(np.float64), query)
                scores[part] = np.rint(sums * _STEPS) / _STEPS + 0.0  # no minus zero
        return _Pool(pool.rows, pool.queries, np.clip(scores, -1, 1))


@dataclass(frozen=True)
class _Pool:
    """Pairs of a row and a query that are still in the running: three arrays of equal length."""

    rows: Rows
    queries: Rows
    scores: FloatArray

    @classmethod
    def of(cls, pools: Sequence[_Pool]) -> _Pool:
        """All together: joined once, since copying a pool for every block would cost more than the products."""
        none = np.zeros(0, np.intp)
        return cls(
            np.concatenate([none, *(pool.rows for pool in pools)]),
            np.concatenate([none, *(pool.queries for pool in pools)]),
            np.concatenate([np.zeros(0, np.float32), *(pool.scores for pool in pools)]),
        )

    def above(self, thresholds: FloatArray) -> _Pool:
        return self._where(self.scores >= thresholds[self.queries])

    def best(self, top_k: int, count: int, rank: Rank | None = None) -> tuple[_Pool, FloatArray]:
        """Sorted by query and falling score (equal ones by rank), and of each query the `top_k`-th score, if any."""
        ties = () if rank is None else (rank[self.rows],)
        order = np.lexsort((*ties, -self.scores, self.queries))
        pool = _Pool(self.rows[order], self.queries[order], self.scores[order])
        first = np.searchsorted(pool.queries, np.arange(count + 1))
        lowest = np.full(count, -np.inf, np.float32)
        full = np.flatnonzero(np.diff(first) >= top_k)
        lowest[full] = pool.scores[first[full] + top_k - 1]
        return pool, lowest

    def first(self, top_k: int, count: int) -> _Pool:
        """The first `top_k` pairs of each query of a sorted pool."""
        first = np.searchsorted(self.queries, np.arange(count))
        return self._where(np.arange(len(self.rows)) - first[self.queries] < top_k)

    def _where(self, kept: npt.NDArray[np.bool_]) -> _Pool:
        return _Pool(self.rows[kept], self.queries[kept], self.scores[kept])
