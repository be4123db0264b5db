"""Exact search by id in vectors that are already in memory.

Used where descriptors are searched that no store has: in validation while a describer is trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.stores.exact.search import FlatVectors
from pipeline.types import FloatArray


class NamedVectors:
    """N vectors with unique ids.

    Args:
        ids: of N images.
        vectors: [N, D] float32 of unit length.
    """

    def __init__(self, ids: Sequence[str], vectors: FloatArray) -> None:
        self._ids = list(ids)
        rank = np.empty(len(self._ids), np.intp)
        rank[sorted(range(len(self._ids)), key=self._ids.__getitem__)] = np.arange(len(self._ids))
        self._flat = FlatVectors(np.ascontiguousarray(vectors, dtype=np.float32), rank)

    def query(self, vectors: FloatArray, top_k: int) -> list[tuple[list[str], FloatArray]]:
        """See `VectorStore.query`: the `top_k` nearest by cosine of each row, descending, ties by id."""
        found = self._flat.nearest(np.asarray(vectors, dtype=np.float64), top_k)
        return [([self._ids[row] for row in rows.tolist()], scores) for rows, scores in found]
