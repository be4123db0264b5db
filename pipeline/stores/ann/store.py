"""The local ann store: approximate search in millions of vectors on one machine, without a server.

`upload` writes it; candidates come from it where `store.kind` is `ann`. Inverted lists say which vectors may be near,
the vectors themselves give the scores. Each model has its own folder: INDEX/ann/FINGERPRINT (docs/ann.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pipeline.errors import RelookError
from pipeline.files import exclusive_lock
from pipeline.stores.ann.lists import MissingListsError, damaged_files, load_faiss
from pipeline.stores.ann.maintenance import ListMaintenance
from pipeline.stores.ann.records import RecordDatabase
from pipeline.stores.ann.search import Snapshot
from pipeline.stores.ann.sqlite_file import count_in
from pipeline.stores.checks import check_query, check_upsert
from pipeline.stores.index.directory import Index
from pipeline.types import FloatArray, GlobalDescriptors, StoredVectors

_DATABASE = "records.sqlite"

# Vectors per transaction: a kill loses at most this number.
_BATCH = 4096
# A writer may replace list files after their names were read and before they are opened: the query starts again.
_TRIES = 5


class AnnStore:
    """Approximate search over vectors that were uploaded.

    Args:
        index: its model is that of the vectors.
        directory: holds a folder per model; None: `ann` in the index directory.
        recall: share of the 100 nearest that a query finds on average. The number of lists that it visits is measured
            on 200 of the store's own vectors when the lists are built.
        flat_below: below this number of vectors all are compared; from it on there are lists.

    Raises:
        RelookError: FAISS is not installed, or the database is damaged or of another model.
    """

    index_backed = False
    hosted = False
    max_results: int | None = None

    def __init__(
        self, index: Index, directory: Path | None = None, recall: float = 0.99, flat_below: int = 8192
    ) -> None:
        load_faiss()
        card = index.card
        self._base = directory or index.directory / "ann"
        self._folder, self._fingerprint = self._base / card.fingerprint, card.fingerprint
        self._records = RecordDatabase(self._folder / _DATABASE, card.fingerprint, card.dimension)
        self._maintenance = ListMaintenance(self._records, flat_below, recall)
        self._snapshot: Snapshot | None = None

    def query(
        self, vectors: FloatArray, top_k: int, where: Mapping[str, Sequence[str]] | None = None
    ) -> list[tuple[list[str], FloatArray]]:
        """See `VectorStore.query`; scores are exact, and without a filter the results may lack some of the nearest.

        Raises RelookError for vectors that are not [Q, D], not finite, or zero, and for damaged files.
        """
        queries = check_query(vectors, top_k, self._records.dimension)
        for tries_left in reversed(range(_TRIES)):
            try:
                with self._records.reading():
                    if self._snapshot is None or self._records.changed():
                        self._snapshot = None
                        self._snapshot = Snapshot(self._records)
                    return self._snapshot.nearest(queries, top_k, where)
            except MissingListsError:
                if not tries_left:
                    raise
        raise AssertionError("unreachable")

    def upsert(self, descriptors: GlobalDescriptors, metadata: Sequence[Mapping[str, str]]) -> None:
        """See `VectorStore.upsert`. Raises RelookError naming the id of a vector that is no unit vector of D values.

        The lists follow when enough vectors are new: a call that trains them takes long.
        """
        check_upsert(descriptors, metadata, self._records.dimension)
        if not len(descriptors.ids):
            return
        with self._lock():
            for start in range(0, len(descriptors.ids), _BATCH):
                some = slice(start, start + _BATCH)
                self._records.put(descriptors.ids[some], descriptors.vectors[some], metadata[some])
            self._maintenance.run()

    def fetch(self, ids: Sequence[str]) -> FloatArray:
        """See `VectorStore.fetch`."""
        found = self._records.named(ids)
        missing = next((name for name in ids if name not in found), None)
        if missing is not None:
            raise RelookError(f"{self._folder}: has no id {missing!r}")
        return self._records.matrix([found[name][1] for name in ids])

    def read(self, ids: Sequence[str]) -> StoredVectors:
        """See `VectorStore.read`."""
        found = self._records.named(ids)
        names = [name for name in ids if name in found]
        vectors = self._records.matrix([found[name][1] for name in names])
        return StoredVectors(names, vectors, [json.loads(found[name][0]) for name in names])

    def delete(self, ids: Sequence[str]) -> int:
        """See `VectorStore.delete`."""
        if not self._records.named(ids):
            return 0
        with self._lock():
            count = self._records.remove(ids)
            self._maintenance.run()
        return count

    def ids(self) -> Iterator[str]:
        """All ids, sorted by code point; ids written meanwhile may be missing."""
        return self._records.ids()

    def stats(self) -> Mapping[str, Any]:
        """ "count", "dimension", "fingerprint"; "lists" (0: all vectors are compared), "probes" (lists that a query
        visits) and the measured "recall"."""
        with self._records.reading():
            state, count = self._records.state(), self._records.count()
        return {
            "count": count,
            "dimension": self._records.dimension,
            "fingerprint": self._fingerprint,
            "lists": state.lists,
            "probes": state.probes[0],
            "recall": state.recall,
        }

    def namespaces(self) -> Mapping[str, int]:
        """See `VectorStore.namespaces`: the folders beside this store's."""
        found = {path.parent.name: path for path in sorted(self._base.glob(f"*/{_DATABASE}"))}
        counts = {name: count_in(path) for name, path in found.items()}
        return {name: count for name, count in counts.items() if count}

    def damaged_files(self) -> list[str]:
        """See `VectorStore.damaged_files`: files of lists; the vectors are compared with the index by `verify`."""
        with self._records.reading():
            return damaged_files(self._folder, self._records.state())

    def rebuild(self) -> None:
        """See `VectorStore.rebuild`: all lists are trained and written from the records."""
        with self._lock():
            self._maintenance.rebuild()
        self._snapshot = None

    def _lock(self) -> AbstractContextManager[None]:
        return exclusive_lock(self._folder / ".lock", f"{self._folder}: another run holds the lock")
