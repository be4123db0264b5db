"""The built-in vector store: the tables of an index directory, searched exactly.

Candidates come from here unless another store is configured; it needs no upload. Cosine similarity by one blocked
matrix product; ties are broken by id, so that Parquet, CSV and every other exact store give the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import RelookError
from pipeline.stores.index import Index
from pipeline.stores.writer import IndexWriter
from pipeline.types import FloatArray, GlobalDescriptors

# Queries per block: a block of scores against a million vectors takes 256 MB.
_BLOCK = 64


class TableStore:
    """Exact search over the globals of an index directory, held in memory.

    Args:
        index: the generation to search; `upsert` and `delete` commit new ones and then look at those.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    @classmethod
    def open(cls, directory: Path) -> TableStore:
        """Search the index at `directory`. Raises RelookError when there is none."""
        return cls(Index(directory))

    def query(
        self, vectors: FloatArray, top_k: int, where: Mapping[str, Sequence[str]] | None = None
    ) -> list[tuple[list[str], FloatArray]]:
        """See `VectorStore.query`. Raises RelookError when `vectors` [Q, D] are of another D or not finite."""
        dimension = self._index.card.dimension
        if vectors.ndim != 2 or vectors.shape[1] != dimension:
            raise RelookError(f"a query has {vectors.shape[-1]} values; this store holds vectors of {dimension}")
        if not np.isfinite(vectors).all():
            raise RelookError("a query vector holds NaN or infinity")
        ids, table, _ = self._rows
        chosen = self._matching(where)
        gallery = table if chosen is None else table[chosen]
        answers = []
        for start in range(0, len(vectors), _BLOCK):
            for scores in vectors[start : start + _BLOCK] @ gallery.T:
                rows = _first(scores, top_k)
                names = rows if chosen is None else chosen[rows]
                answers.append(([ids[row] for row in names], scores[rows]))
        return answers

    def upsert(self, descriptors: GlobalDescriptors, metadata: Sequence[Mapping[str, str]]) -> None:
        """See `VectorStore.upsert`. Raises RelookError naming the id of a vector that is no unit vector of D values."""
        _check_unit(descriptors, self._index.card.dimension)
        if len(set(descriptors.ids)) != len(descriptors.ids):
            raise RelookError("an upsert holds the same id twice")
        with IndexWriter(self._index.directory) as writer:
            writer.add_vectors(descriptors.ids, descriptors.vectors, metadata)
        self._reopen()

    def fetch(self, ids: Sequence[str]) -> FloatArray:
        """See `VectorStore.fetch`."""
        _, table, rows = self._rows
        try:
            return table[[rows[name] for name in ids]]
        except KeyError as error:
            raise RelookError(f"{self._index.directory}: holds no id {error.args[0]!r}") from None

    def delete(self, ids: Sequence[str]) -> int:
        """See `VectorStore.delete`."""
        with IndexWriter(self._index.directory) as writer:
            count = writer.delete(ids)
        self._reopen()
        return count

    def ids(self) -> Iterator[str]:
        """All ids, sorted by code point."""
        return iter(self._rows[0])

    def stats(self) -> Mapping[str, Any]:
        """ "count", "dimension", "fingerprint" and "tables" (parquet or csv)."""
        manifest = self._index.manifest
        return {
            "count": len(self._rows[0]),
            "dimension": self._index.card.dimension,
            "fingerprint": manifest.fingerprint,
            "tables": manifest.tables,
        }

    @cached_property
    def _rows(self) -> tuple[list[str], FloatArray, dict[str, int]]:
        """Ids sorted, vectors in that order, and the row of each id: a tie in score is then a tie in row number."""
        tables = list(self._index.globals_parts())
        ids = [name for table in tables for name in table.ids]
        vectors = (
            np.concatenate([table.vectors for table in tables])
            if tables
            else np.zeros((0, self._index.card.dimension), np.float32)
        )
        order = sorted(range(len(ids)), key=ids.__getitem__)
        ordered = [ids[row] for row in order]
        return ordered, vectors[order], {name: row for row, name in enumerate(ordered)}

    @cached_property
    def _metadata(self) -> dict[str, dict[str, str]]:
        return {
            name: entry
            for table in self._index.globals_parts()
            for name, entry in zip(table.ids, table.metadata, strict=True)
        }

    def _matching(self, where: Mapping[str, Sequence[str]] | None) -> npt.NDArray[np.intp] | None:
        if where is None:
            return None
        wanted = {key: set(values) for key, values in where.items()}
        kept = [
            row
            for row, name in enumerate(self._rows[0])
            if all(self._metadata[name].get(key, "") in values for key, values in wanted.items())
        ]
        return np.array(kept, dtype=np.intp)

    def _reopen(self) -> None:
        self._index = Index(self._index.directory)
        for name in ("_rows", "_metadata"):
            self.__dict__.pop(name, None)


def _first(scores: FloatArray, top_k: int) -> npt.NDArray[np.intp]:
    """Rows of the `top_k` highest scores, descending; equal scores by row, also at the cut."""
    if top_k < len(scores):
        threshold = np.partition(scores, len(scores) - top_k)[len(scores) - top_k]
        above = np.flatnonzero(scores > threshold)
        level = np.flatnonzero(scores == threshold)[: top_k - len(above)]
        rows = np.sort(np.concatenate([above, level]))
    else:
        rows = np.arange(len(scores))
    return rows[np.argsort(-scores[rows], kind="stable")]


def _check_unit(descriptors: GlobalDescriptors, dimension: int) -> None:
    vectors = descriptors.vectors
    if vectors.ndim != 2 or vectors.shape != (len(descriptors.ids), dimension):
        raise RelookError(f"vectors of shape {vectors.shape} for {len(descriptors.ids)} ids; expected [N, {dimension}]")
    lengths = np.linalg.norm(vectors, axis=1)
    for name, length in zip(descriptors.ids, lengths, strict=True):
        if not abs(length - 1) < 1e-3:
            raise RelookError(f"the vector of {name!r} has length {length:.4g}; descriptors have unit length")
