"""SuperGlobal's re-ranking as searches load it: NumPy for a few queries on a CPU, torch for many and on CUDA.

What the registry names for searches. Loading torch takes longer, and more memory, than re-ranking some queries in
NumPy; for many `superglobal.py` is faster. Both compute the same equations, to the last digits of float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.errors import RelookError
from pipeline.rerank.superglobal_base import SuperGlobalBase
from pipeline.types import Candidates, Description, DescriptorSource, FloatArray, Neighbours

if TYPE_CHECKING:
    from pipeline.rerank.superglobal import SuperGlobalReranker

# Queries up to which NumPy computes.
_FEW = 4


@dataclass(frozen=True)
class _Refinement:
    """The M candidates of one query, each a mix of K + 1 of them: `superglobal.Refinement` for one query."""

    vectors: FloatArray
    neighbours: npt.NDArray[np.intp]
    weights: FloatArray

    def similarity(self, query: FloatArray) -> FloatArray:
        """[M] products of a query [D] with the refined descriptors."""
        return np.asarray((self.weights * (self.vectors @ query)[self.neighbours]).sum(axis=1), np.float32)


class SuperGlobal(SuperGlobalBase):
    """As `superglobal.SuperGlobalReranker`; see `SuperGlobalBase` for the arguments."""

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        """The mix of the two similarities of equation 10, one [K] float32 array per query."""
        if self._device_name != "cpu" or len(queries) > _FEW:
            return self._whole.score(queries, candidates, gallery)
        if len(queries) != len(candidates.ids):
            raise RelookError(f"{len(queries)} queries for {len(candidates.ids)} lists of candidates")
        return [
            self._scores(query.vector, gallery.globals(ids)) if ids else np.zeros(0, np.float32)
            for query, ids in zip(queries, candidates.ids, strict=True)
        ]

    def explain(
        self, query: Description, candidates: Candidates, ids: Sequence[str], gallery: DescriptorSource
    ) -> list[Neighbours]:
        """See `ExplainingReranker.explain`: the candidates that refined each image, and what that changed."""
        if self._device_name != "cpu":
            return self._whole.explain(query, candidates, ids, gallery)
        names = candidates.ids[0]
        refinement = self._refinement(gallery.globals(names))
        before, after = refinement.vectors @ query.vector, refinement.similarity(query.vector)
        found = []
        for row in map(names.index, ids):
            others = refinement.neighbours[row] != row
            weights, places = refinement.weights[row][others], refinement.neighbours[row][others]
            order = np.argsort(-weights, kind="stable")
            mixed = [names[place] for place in places[order].tolist()]
            found.append(Neighbours(mixed, weights[order], float(before[row]), float(after[row])))
        return found

    def _scores(self, query: FloatArray, vectors: FloatArray) -> FloatArray:
        """Scores [M] of candidates [M, D], both float32 of unit length."""
        refinement = self._refinement(vectors)
        first = refinement.similarity(query)
        best = _largest(first[None], self._k + 1)[0]
        mixed = refinement.vectors[refinement.neighbours[best]]
        expanded = np.einsum("rk,rkd->rd", refinement.weights[best], mixed).max(axis=0)
        if self._normalise:
            expanded = expanded / max(float(np.linalg.norm(expanded)), 1e-12)
        second = refinement.similarity(np.asarray(expanded, np.float32))
        return np.asarray((1 - self._expansion) * first + self._expansion * second, np.float32)

    def _refinement(self, vectors: FloatArray) -> _Refinement:
        """Candidates [M, D], refined by themselves and their K nearest among each other (equation 8)."""
        vectors = np.asarray(vectors, np.float32)
        products = vectors @ vectors.T
        np.fill_diagonal(products, np.inf)  # duplicates must not displace a candidate from its own mix
        neighbours = _largest(products, self._k + 1)
        itself = neighbours == np.arange(len(vectors))[:, None]
        similarity = np.where(itself, 0, np.take_along_axis(products, neighbours, axis=1))
        weighed = similarity if self._power == 1 else np.maximum(similarity, 0) ** np.float32(self._power)
        weights = np.where(itself, np.float32(1), np.float32(self._beta) * weighed)
        return _Refinement(vectors, neighbours, np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32))

    @cached_property
    def _whole(self) -> SuperGlobalReranker:
        from pipeline.rerank.superglobal import SuperGlobalReranker

        return SuperGlobalReranker(
            self._k, self._beta, self._power, self._expansion, self._normalise, device=self._device_name
        )


def _largest(values: FloatArray, count: int) -> npt.NDArray[np.intp]:
    """[Q, count] where each row of [Q, M] is largest, in no order; all of it where M is not above `count`."""
    if values.shape[1] <= count:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    return np.argpartition(values, values.shape[1] - count, axis=1)[:, -count:]
