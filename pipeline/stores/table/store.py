"""The built-in vector store: the tables of an index directory, searched exactly.

Candidates come from here unless another store is configured; it needs no upload. Cosine similarity by one blocked
matrix product; ties are broken by id, so that Parquet, CSV and every other exact store give the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import RelookError
from pipeline.stores.checks import check_query, check_upsert
from pipeline.stores.exact.search import FlatVectors
from pipeline.stores.index.directory import Index
from pipeline.stores.index.id_column import IdRank
from pipeline.stores.index.writer import IndexWriter
from pipeline.stores.once import once_property
from pipeline.stores.table.in_memory import InMemoryGlobals, Precision
from pipeline.types import FloatArray, GlobalDescriptors, StoredVectors


class TableStore:
    """Exact search over the globals of an index directory, held in memory.

    Args:
        index: the generation to search; `upsert` and `delete` commit new ones and then look at those.
        precision: of the vectors in memory. float16 takes half of it; what is found is then exact for rounded vectors.
        device: where they are searched, "cpu" or "cuda".
    """

    index_backed = True
    hosted = False
    max_results: int | None = None

    def __init__(self, index: Index, precision: Precision = "float32", device: str = "cpu") -> None:
        self._index, self._precision, self._device = index, precision, device

    @classmethod
    def open(cls, directory: Path, **options: Any) -> TableStore:
        """Search the index at `directory`. Raises RelookError when there is none."""
        return cls(Index(directory), **options)

    def query(
        self, vectors: FloatArray, top_k: int, where: Mapping[str, Sequence[str]] | None = None
    ) -> list[tuple[list[str], FloatArray]]:
        """See `VectorStore.query`. Raises RelookError for vectors that are not [Q, D], not finite, or zero."""
        queries = check_query(vectors, top_k, self._index.card.dimension)
        among = None if where is None else self._loaded.matching(where)
        found = self._flat.nearest(queries, top_k, among)
        return [(self._loaded.ids.at(rows), scores) for rows, scores in found]

    def upsert(self, descriptors: GlobalDescriptors, metadata: Sequence[Mapping[str, str]]) -> None:
        """See `VectorStore.upsert`. Raises RelookError naming the id of a vector that is no unit vector of D values."""
        check_upsert(descriptors, metadata, self._index.card.dimension)
        with IndexWriter(self._index.directory) as writer:
            writer.add_vectors(descriptors.ids, descriptors.vectors, metadata)
        self._reopen()

    def fetch(self, ids: Sequence[str]) -> FloatArray:
        """See `VectorStore.fetch`."""
        rows = self._loaded.ids.rows_of(ids)
        if (rows < 0).any():
            raise RelookError(f"{self._index.directory}: holds no id {ids[int(np.argmin(rows))]!r}")
        return self._loaded.vectors[rows].astype(np.float32, copy=False)

    def read(self, ids: Sequence[str]) -> StoredVectors:
        """See `VectorStore.read`."""
        rows = self._loaded.ids.rows_of(ids)
        rows = rows[rows >= 0]
        vectors = self._loaded.vectors[rows].astype(np.float32, copy=False)
        return StoredVectors(self._loaded.ids.at(rows), vectors, self._loaded.metadata(rows))

    def delete(self, ids: Sequence[str]) -> int:
        """See `VectorStore.delete`."""
        with IndexWriter(self._index.directory) as writer:
            count = writer.delete(ids)
        self._reopen()
        return count

    def ids(self) -> Iterator[str]:
        """All ids, sorted by code point."""
        return self._loaded.ids.sorted()

    def stats(self) -> Mapping[str, Any]:
        """ "count", "dimension", "fingerprint" and "tables" (parquet or csv)."""
        manifest = self._index.manifest
        return {
            "count": manifest.counts["images"],
            "dimension": self._index.card.dimension,
            "fingerprint": manifest.fingerprint,
            "tables": manifest.tables,
        }

    def namespaces(self) -> Mapping[str, int]:
        """See `VectorStore.namespaces`: an index directory holds one model."""
        return {self._index.manifest.fingerprint: self._index.manifest.counts["images"]}

    def damaged_files(self) -> list[str]:
        """See `VectorStore.damaged_files`: there are none, `Index.verify` reads the index's own."""
        return []

    def rebuild(self) -> None:
        """See `VectorStore.rebuild`: there is nothing to make."""

    @once_property
    def _loaded(self) -> InMemoryGlobals:
        return InMemoryGlobals(self._index, self._precision)

    @once_property
    def _flat(self) -> FlatVectors:
        return FlatVectors(self._loaded.vectors, IdRank(self._loaded.ids), self._device)

    def _reopen(self) -> None:
        self._index = Index(self._index.directory)
        for name in ("_loaded", "_flat"):
            self.__dict__.pop(name, None)


class CSVStore(TableStore):
    """The same over CSV tables.

    Raises:
        RelookError: the index's tables are Parquet.
    """

    def __init__(self, index: Index, **options: Any) -> None:
        if index.manifest.tables != "csv":
            raise RelookError(f"{index.directory}: its tables are Parquet; extract with --set store.kind=csv for CSV")
        super().__init__(index, **options)
