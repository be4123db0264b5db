"""The Pinecone store: global descriptors in one namespace per model, in a Pinecone index that several models share.

A `HostedStore`, written by `upload`. docs/pinecone.md says how records, namespaces and limits are handled, and why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from pipeline.errors import RelookError
from pipeline.stores.checks import check_query, check_upsert
from pipeline.stores.index.directory import Index
from pipeline.stores.pinecone.bulk_import import import_parts
from pipeline.stores.pinecone.ids import in_order, stored_id
from pipeline.stores.pinecone.limits import RECORDS, TOP_K
from pipeline.stores.pinecone.models import Models
from pipeline.stores.pinecone.namespace_reader import NamespaceReader
from pipeline.stores.pinecone.record_api import Record, condition_of
from pipeline.stores.pinecone.records import cost_of, metadata_of, records_of
from pipeline.stores.pinecone.requests import RequestSettings, pinecone_errors
from pipeline.stores.pinecone.service import PineconeService, RemoteIndex
from pipeline.types import FloatArray, GlobalDescriptors, StoredVectors, WriteCost

# Seconds between two checks whether a write can be read: the first and the longest pause.
_PAUSES = (0.05, 2.0)


class PineconeStore:
    """The vectors of one model in Pinecone.

    Args:
        index: whose model it is.
        name: of the Pinecone index; the first upsert creates it.
        collection: prefix of the namespaces, where several collections share the Pinecone index; None: there is one.
        cloud, region: of a new index.
        records: of a new index: "documents", or "vectors", the older kind, which imports Parquet.
        concurrency: requests at once.
        timeout: seconds for one request.
        wait: seconds until a write can be read, at most.
        import_wait: seconds for a bulk import.
        resends: how often a request that still fails after the SDK's retries is sent again.
        resend_after: seconds before each.
        unpromoted: search this model even where another one is current.
    """

    index_backed = False
    hosted = True
    max_results: int | None = TOP_K

    def __init__(
        self,
        index: Index,
        *,
        name: str,
        collection: str | None,
        cloud: str,
        region: str,
        records: Literal["documents", "vectors"],
        concurrency: int,
        timeout: float,
        wait: float,
        import_wait: float,
        resends: int,
        resend_after: float,
        unpromoted: bool,
    ) -> None:
        self._index, self._card = index, index.card
        self._service = PineconeService(name, timeout, RequestSettings(concurrency, resends, resend_after))
        self._models = Models(self._service, collection, index.card)
        self._new = {"cloud": cloud, "region": region, "records": records}
        self._wait, self._import_wait = wait, import_wait
        self._unpromoted = unpromoted
        self._reader = NamespaceReader(self._service, self._models.namespace, index.card.dimension)
        self._written = 0

    def place(self) -> str:
        """See `HostedStore.place`."""
        remote = self._service.find()
        return f"{remote.host if remote else self._service.name}/{self._space}"

    def prepare(self) -> None:
        """See `HostedStore.prepare`."""
        self._existing(make=True)

    def query(
        self, vectors: FloatArray, top_k: int, where: Mapping[str, Sequence[str]] | None = None
    ) -> list[tuple[list[str], FloatArray]]:
        """See `VectorStore.query`.

        Raises RelookError also for a `top_k` beyond 10,000, where there is no Pinecone index, and where another model
        is current.
        """
        queries = check_query(vectors, top_k, self._card.dimension)
        if top_k > TOP_K:
            raise RelookError(
                f"top_k = {top_k}: Pinecone returns at most {TOP_K} results per query; lower it, or use --store table"
            )
        remote = self._existing()
        if not self._unpromoted:
            self._models.check_current(remote, self._index.directory)
        if not all((where or {}).values()):
            return [([], np.zeros(0, np.float32)) for _ in queries]
        condition = condition_of(where)
        results = self._reader.at_once(
            lambda query: self._reader.nearest(remote, query, top_k, condition), queries.tolist()
        )
        if results and condition is None and not any(ids for ids, _ in results):
            self._models.check_not_elsewhere(remote)
        return results

    def upsert(self, descriptors: GlobalDescriptors, metadata: Sequence[Mapping[str, str]]) -> None:
        """See `VectorStore.upsert`; a Pinecone index that does not exist yet is created.

        Raises RelookError also for metadata of more than 40 KB or with a reserved name, before any of 1,000 is sent.
        """
        check_upsert(descriptors, metadata, self._card.dimension)
        if not len(descriptors.ids):
            return
        remote = self._existing(make=True)
        self._models.register(remote)
        for first in range(0, len(metadata), RECORDS):
            some = slice(first, first + RECORDS)
            parts = descriptors.ids[some], descriptors.vectors[some], metadata[some]
            records, sizes = records_of(remote.records, *parts)
            with pinecone_errors(self._service.name):
                self._wrote(remote.records.write(self._space, records, sizes, self._service.settings))

    def fetch(self, ids: Sequence[str]) -> FloatArray:
        """See `VectorStore.fetch`."""
        found = self._fetch(ids, metadata=False)
        for name in ids:
            if name not in found:
                raise RelookError(f"{self.place()}: has no id {name!r}")
        return self._stack(found[name] for name in ids)

    def read(self, ids: Sequence[str]) -> StoredVectors:
        """See `VectorStore.read`."""
        found = self._fetch(ids, metadata=True)
        names = [name for name in ids if name in found]
        metadata = [metadata_of(found[name][1]) for name in names]
        return StoredVectors(names, self._stack(found[name] for name in names), metadata)

    def delete(self, ids: Sequence[str]) -> int:
        """See `VectorStore.delete`."""
        remote = self._service.find()
        there = [stored_id(name) for name in self._fetch(ids, metadata=False)]
        for first in range(0, len(there), RECORDS):
            with pinecone_errors(self._service.name):
                some = there[first : first + RECORDS]
                self._wrote(remote.records.delete(self._space, some) if remote else None)
        return len(there)

    def ids(self) -> Iterator[str]:
        """All ids, sorted by code point; requested page by page."""
        remote = self._service.find()
        if remote is not None:
            yield from in_order(self._reader.stored_ids(remote), lambda some: self._reader.originals(remote, some))

    def stats(self) -> Mapping[str, Any]:
        """ "count" (which follows writes by seconds), "dimension", "fingerprint" and "place"."""
        fingerprint = self._card.fingerprint
        count = self.namespaces().get(fingerprint, 0)
        return {"count": count, "dimension": self._card.dimension, "fingerprint": fingerprint, "place": self.place()}

    def namespaces(self) -> Mapping[str, int]:
        """See `VectorStore.namespaces`: the models of this collection."""
        remote = self._service.find()
        return {} if remote is None else self._models.counts(remote)

    def damaged_files(self) -> list[str]:
        """See `VectorStore.damaged_files`: there are none."""
        return []

    def rebuild(self) -> None:
        """See `VectorStore.rebuild`: there is nothing to make."""

    def settle(self, count: int, tick: Callable[[int], None]) -> int:
        """See `HostedStore.settle`."""
        began = changed = time.monotonic()
        pause, counted = _PAUSES[0], -1
        while True:
            seen, found, now = self._seen(), self.stats()["count"], time.monotonic()
            if found != counted:
                counted, changed = found, now
                tick(counted)
            if seen and (counted == count or now - changed > self._wait / 5):
                return counted
            if now - began > self._wait:
                if seen:
                    return counted
                raise RelookError(
                    f"{self.place()}: what was written cannot be read after {self._wait:g} s; run it again"
                )
            time.sleep(pause)
            pause = min(2 * pause, _PAUSES[1])

    def cost(self, rows: StoredVectors) -> WriteCost:
        """See `HostedStore.cost`."""
        return cost_of(rows)

    def current(self) -> str | None:
        """See `HostedStore.current`."""
        return self._models.current()

    def promote(self) -> None:
        """See `HostedStore.promote`."""
        self._existing()
        self._models.promote()

    def prunable(self) -> Mapping[str, int]:
        """See `HostedStore.prunable`."""
        return self._models.prunable(self._existing())

    def prune(self) -> Mapping[str, int]:
        """See `HostedStore.prune`."""
        return self._models.prune(self._existing())

    def import_parts(self, uri: str, tick: Callable[[float], None]) -> None:
        """See `HostedStore.import_parts`; a Pinecone index that does not exist yet is created for vectors."""
        remote = self._existing(make=True, records="vectors")
        with pinecone_errors(self._service.name):
            import_parts(self._index, remote, self._space, uri, self._import_wait, tick)
        self._models.register(remote)

    @property
    def _space(self) -> str:
        return self._models.namespace

    def _existing(self, make: bool = False, **changes: str) -> RemoteIndex:
        name, dimension = self._service.name, self._card.dimension
        remote = self._service.find()
        if remote is None and make:
            remote = self._service.create(dimension, **{**self._new, **changes})
        if remote is None:
            raise RelookError(f"there is no Pinecone index {name}; run: relook upload --store pinecone")
        if remote.dimension != dimension:
            raise RelookError(
                f"Pinecone index {name}: has vectors of {remote.dimension} values, and the model makes {dimension}; "
                "set store.pinecone.name to another one"
            )
        return remote

    def _wrote(self, number: int | None) -> None:
        self._written = max(self._written, number or 0)

    def _seen(self) -> bool:
        """Whether a search sees all that this process wrote; without sequence numbers only the counts tell."""
        if not self._written:
            return True
        probe = [1.0, *[0.0] * (self._card.dimension - 1)]
        remote = self._existing()
        _, number = self._service.read(lambda: remote.records.search(self._space, probe, 1, None))
        return number is None or number >= self._written

    def _fetch(self, ids: Sequence[str], metadata: bool) -> dict[str, tuple[FloatArray, Record]]:
        """What exists of `ids`, each once."""
        remote = self._service.find()
        names = {stored_id(name): name for name in ids}
        found = {} if remote is None else self._reader.fetch(remote, list(names), metadata)
        return {names[stored]: one for stored, one in found.items()}

    def _stack(self, found: Iterable[tuple[FloatArray, Record]]) -> FloatArray:
        vectors = [vector for vector, _ in found]
        return np.stack(vectors) if vectors else np.zeros((0, self._card.dimension), np.float32)
