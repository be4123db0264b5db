"""The built-in vector store: the tables of an index directory, searched exactly.

Candidates come from here unless another store is configured; it needs no upload. Cosine similarity by one blocked
matrix product; ties are broken by id, so that Parquet, CSV and every other exact store give the same order. The first
query is streamed from the files, so that one search of a large index does not wait for all of it to be in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import RelookError
from pipeline.stores.checks import check_query, check_upsert
from pipeline.stores.exact.search import PASS_QUERIES, FlatVectors
from pipeline.stores.index.directory import Index
from pipeline.stores.index.id_column import IdRank
from pipeline.stores.index.part_ids import PartIds
from pipeline.stores.index.writer import IndexWriter
from pipeline.stores.once import once_property
from pipeline.stores.table.in_memory import Precision, load_vectors
from pipeline.stores.table.metadata import TableMetadata
from pipeline.types import FloatArray, GlobalDescriptors, StoredVectors

# Results of a query that is streamed: each is read again by itself, which takes some 10 microseconds.
_STREAMED_RESULTS = 1 << 15


class TableStore:
    """Exact search over the globals of an index directory: the first query in its files, later ones in memory.

    The first one is searched in memory as well where it does not pay or cannot be: more than 64 vectors or 32,768
    results, another precision or device, CSV tables, Parquet of other writers.

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
        # Taken by the first query, of whatever thread, and never released.
        self._first_query = threading.Lock()

    @classmethod
    def open(cls, directory: Path, **options: Any) -> TableStore:
        """Search the index at `directory`. Raises RelookError when there is none."""
        return cls(Index(directory), **options)

    def query(
        self, vectors: FloatArray, top_k: int, where: Mapping[str, Sequence[str]] | None = None
    ) -> list[tuple[list[str], FloatArray]]:
        """See `VectorStore.query`. Raises RelookError for vectors that are not [Q, D], not finite, or zero."""
        queries = check_query(vectors, top_k, self._index.card.dimension)
        among = None if where is None else self._metadata.matching(where)
        first = self._first_query.acquire(blocking=False)
        search = self._streamed if first and self._may_stream(len(queries), top_k) else self._flat
        found = search.nearest(queries, top_k, among)
        return [(self._ids.at(rows), scores) for rows, scores in found]

    def load(self) -> None:
        """Read the vectors into memory before the first query, for whoever will send many. Raises as `query` does."""
        self._first_query.acquire(blocking=False)
        _ = self._flat

    def upsert(self, descriptors: GlobalDescriptors, metadata: Sequence[Mapping[str, str]]) -> None:
        """See `VectorStore.upsert`. Raises RelookError naming the id of a vector that is no unit vector of D values."""
        check_upsert(descriptors, metadata, self._index.card.dimension)
        with IndexWriter(self._index.directory) as writer:
            writer.add_vectors(descriptors.ids, descriptors.vectors, metadata)
        self._reopen()

    def fetch(self, ids: Sequence[str]) -> FloatArray:
        """See `VectorStore.fetch`."""
        rows = self._ids.rows_of(ids)
        if (rows < 0).any():
            raise RelookError(f"{self._index.directory}: holds no id {ids[int(np.argmin(rows))]!r}")
        return self._vectors_at(rows)

    def read(self, ids: Sequence[str]) -> StoredVectors:
        """See `VectorStore.read`."""
        rows = self._ids.rows_of(ids)
        rows = rows[rows >= 0]
        return StoredVectors(self._ids.at(rows), self._vectors_at(rows), self._metadata.at(rows))

    def delete(self, ids: Sequence[str]) -> int:
        """See `VectorStore.delete`."""
        with IndexWriter(self._index.directory) as writer:
            count = writer.delete(ids)
        self._reopen()
        return count

    def ids(self) -> Iterator[str]:
        """All ids, sorted by code point."""
        return self._ids.sorted()

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

    def _may_stream(self, queries: int, top_k: int) -> bool:
        """Whether a query is searched in the files: one pass is enough, and they have the vectors as they are."""
        as_stored = self._precision == "float32" and self._device == "cpu"
        few = queries <= PASS_QUERIES and queries * top_k <= _STREAMED_RESULTS
        return as_stored and few and self._index.vector_rows.read_singly()

    def _vectors_at(self, rows: npt.NDArray[np.intp]) -> FloatArray:
        """[n, D] float32 of some rows: from memory where they are there, else from their files alone."""
        if self._index.manifest.tables == "csv" or "_vectors" in self.__dict__:
            return self._vectors[rows].astype(np.float32, copy=False)
        return self._index.vector_rows[rows].astype(self._precision, copy=False).astype(np.float32, copy=False)

    @property
    def _ids(self) -> PartIds:
        return self._index.vector_ids

    @property
    def _streamed(self) -> FlatVectors:
        return FlatVectors(self._index.vector_rows, IdRank(self._ids))

    @once_property
    def _vectors(self) -> npt.NDArray[np.floating[Any]]:
        return load_vectors(self._index.vector_rows, self._precision)

    @once_property
    def _flat(self) -> FlatVectors:
        return FlatVectors(self._vectors, IdRank(self._ids.all), self._device)

    @once_property
    def _metadata(self) -> TableMetadata:
        return TableMetadata(self._index)

    def _reopen(self) -> None:
        self._index = Index(self._index.directory)
        for name in ("_vectors", "_flat", "_metadata"):
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
