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
from pipeline.stores.checks import check_query, check_upsert
from pipeline.stores.index import Index
from pipeline.stores.writer import IndexWriter
from pipeline.types import FloatArray, GlobalDescriptors, StoredVectors

# Queries per block: a block of scores against a million vectors takes 256 MB.
_BLOCK = 64
# Vectors per block of exact scores: a block of 2,048 values each takes 64 MB in float64.
_ROWS = 4096
# Cosines are multiples of one over this: finer than float32 near 1, coarser than the errors of summing in float64.
_STEPS = 2.0**30


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
        """See `VectorStore.query`. Raises RelookError for vectors that are not [Q, D], not finite, or zero."""
        queries = check_query(vectors, top_k, self._index.card.dimension)
        chosen = self._matching(where)
        gallery = self._vectors if chosen is None else self._vectors[chosen]
        names = self._names if chosen is None else [self._names[row] for row in chosen]
        answers = []
        for start in range(0, len(queries), _BLOCK):
            block = queries[start : start + _BLOCK]
            near = _near(block, gallery, top_k)
            for scores in _cosines(block, gallery, near):
                first = _first(scores, top_k)
                answers.append(([names[row] for row in near[first]], scores[first]))
        return answers

    def upsert(self, descriptors: GlobalDescriptors, metadata: Sequence[Mapping[str, str]]) -> None:
        """See `VectorStore.upsert`. Raises RelookError naming the id of a vector that is no unit vector of D values."""
        check_upsert(descriptors, metadata, self._index.card.dimension)
        with IndexWriter(self._index.directory) as writer:
            writer.add_vectors(descriptors.ids, descriptors.vectors, metadata)
        self._reopen()

    def fetch(self, ids: Sequence[str]) -> FloatArray:
        """See `VectorStore.fetch`."""
        try:
            return self._vectors[[self._row_of[name] for name in ids]]
        except KeyError as error:
            raise RelookError(f"{self._index.directory}: holds no id {error.args[0]!r}") from None

    def read(self, ids: Sequence[str]) -> StoredVectors:
        """See `VectorStore.read`."""
        rows = [self._row_of[name] for name in ids if name in self._row_of]
        names = [self._names[row] for row in rows]
        return StoredVectors(names, self._vectors[rows], [self._metadata[row] for row in rows])

    def delete(self, ids: Sequence[str]) -> int:
        """See `VectorStore.delete`."""
        with IndexWriter(self._index.directory) as writer:
            count = writer.delete(ids)
        self._reopen()
        return count

    def ids(self) -> Iterator[str]:
        """All ids, sorted by code point."""
        return iter(self._names)

    def stats(self) -> Mapping[str, Any]:
        """ "count", "dimension", "fingerprint" and "tables" (parquet or csv)."""
        manifest = self._index.manifest
        return {
            "count": len(self._names),
            "dimension": self._index.card.dimension,
            "fingerprint": manifest.fingerprint,
            "tables": manifest.tables,
        }

    def namespaces(self) -> Mapping[str, int]:
        """See `VectorStore.namespaces`: an index directory holds one model."""
        return {self._index.manifest.fingerprint: len(self._names)}

    @property
    def _names(self) -> list[str]:
        return self._rows[0]

    @property
    def _vectors(self) -> FloatArray:
        return self._rows[1]

    @property
    def _metadata(self) -> list[Mapping[str, str]]:
        return self._rows[2]

    @cached_property
    def _rows(self) -> tuple[list[str], FloatArray, list[Mapping[str, str]]]:
        """Ids sorted, their vectors and metadata in that order: a tie in score is then a tie in row number."""
        ids: list[str] = []
        metadata: list[Mapping[str, str]] = []
        parts: list[FloatArray] = [np.zeros((0, self._index.card.dimension), np.float32)]
        for table in self._index.globals_parts():
            ids += table.ids
            metadata += table.metadata
            parts.append(table.vectors)
        vectors = np.concatenate(parts)
        parts.clear()  # sorting takes a second copy; a third would be waste
        order = sorted(range(len(ids)), key=ids.__getitem__)
        return [ids[row] for row in order], vectors[order], [metadata[row] for row in order]

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self._names)}

    def _matching(self, where: Mapping[str, Sequence[str]] | None) -> npt.NDArray[np.intp] | None:
        if where is None:
            return None
        wanted = {key: set(values) for key, values in where.items()}
        kept = [
            row
            for row, entry in enumerate(self._metadata)
            if all(entry.get(key, "") in values for key, values in wanted.items())
        ]
        return np.array(kept, dtype=np.intp)

    def _reopen(self) -> None:
        self._index = Index(self._index.directory)
        for name in ("_rows", "_row_of"):
            self.__dict__.pop(name, None)


def _near(queries: npt.NDArray[np.float64], gallery: FloatArray, top_k: int) -> npt.NDArray[np.intp]:
    """Rows among which the `top_k` of every query are, ascending, found by a product in float32.

    Such a product depends on what else stands beside a vector in the matrices, by at most some D roundings.
    """
    if top_k >= len(gallery):
        return np.arange(len(gallery))
    slack = 2 * (gallery.shape[1] + 2) * np.finfo(np.float32).eps
    near = np.zeros(len(gallery), dtype=bool)
    for scores in np.minimum(queries.astype(np.float32) @ gallery.T, 1):
        near |= scores >= np.partition(scores, len(scores) - top_k)[len(scores) - top_k] - slack
    return np.flatnonzero(near)


def _cosines(queries: npt.NDArray[np.float64], gallery: FloatArray, rows: npt.NDArray[np.intp]) -> FloatArray:
    """[Q, len(rows)] cosines, summed in float64 and rounded.

    Equal vectors have equal cosines in whatever company they are, also where the terms of the sum cancel out.
    """
    cosines = np.empty((len(queries), len(rows)), dtype=np.float32)
    for start in range(0, len(rows), _ROWS):
        block = gallery[rows[start : start + _ROWS]].astype(np.float64)
        cosines[:, start : start + _ROWS] = np.rint(queries @ block.T * _STEPS) / _STEPS + 0.0  # no minus zero
    return np.clip(cosines, -1, 1, out=cosines)


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
