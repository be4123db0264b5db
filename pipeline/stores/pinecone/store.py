"""Global descriptors in Pinecone: one namespace a model, in an index that several models share.

A `HostedStore`, filled by `upload`, searched by everything that asks for candidates. docs/pinecone.md says how records,
namespaces and limits are handled, and why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import numpy as np

from pipeline.errors import RelookError
from pipeline.stores.checks import check_query, check_upsert
from pipeline.stores.index.directory import Index
from pipeline.stores.pinecone.api import ORIGINAL, Item, Sending, condition_of
from pipeline.stores.pinecone.bulk_import import import_parts
from pipeline.stores.pinecone.ids import in_order, is_hashed, original_id, stored_id
from pipeline.stores.pinecone.items import cost_of, items_of, metadata_of
from pipeline.stores.pinecone.limits import RECORDS, TOP_K
from pipeline.stores.pinecone.models import Models
from pipeline.stores.pinecone.service import Served, Service, speaking
from pipeline.types import FloatArray, GlobalDescriptors, StoredVectors, WriteCost

# Answers asked for beyond the cut, so that ties there can go by id.
_BEYOND = 10
# Scores are sums in float32: what rounds to the same multiple of one over this is equal.
_STEPS = 2.0**20
# Seconds between two looks at whether a write can be read: at first, and in the end.
_PAUSES = (0.05, 2.0)

One = TypeVar("One")
Other = TypeVar("Other")


class PineconeStore:
    """The vectors of one model in Pinecone.

    Args:
        index: whose model it is.
        name: of the Pinecone index; made by the first upsert where there is none.
        collection: tells several collections in one Pinecone index apart; None for the only one.
        cloud, region: where a new index is made.
        records: that a new index is made for: "documents", or "vectors", the older one, which imports Parquet.
        concurrency: requests at once.
        timeout: seconds that a request may take.
        wait: seconds that may pass until a write can be read.
        import_wait: seconds that a bulk import may take.
        resends: how often what the SDK gave up on is sent again.
        resend_after: seconds before that.
        unpromoted: search this model even where another one is current.
    """

    index_backed = False
    hosted = True

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
        self._service = Service(name, timeout)
        self._models = Models(self._service, collection, index.card)
        self._new = {"cloud": cloud, "region": region, "records": records}
        self._sending = Sending(concurrency, resends, resend_after)
        self._wait, self._import_wait = wait, import_wait
        self._unpromoted = unpromoted
        self._written = 0

    def place(self) -> str:
        """See `HostedStore.place`."""
        served = self._service.find()
        return f"{served.host if served else self._service.name}/{self._space}"

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
            raise RelookError(f"top_k = {top_k}: Pinecone answers with at most {TOP_K}")
        served = self._existing()
        if not self._unpromoted:
            self._models.check_current(served, self._index.directory)
        if not all((where or {}).values()):
            return [([], np.zeros(0, np.float32)) for _ in queries]
        condition = condition_of(where)
        answers = self._at_once(lambda query: self._answer(served, query, top_k, condition), queries.tolist())
        if answers and condition is None and not any(ids for ids, _ in answers):
            self._models.check_not_elsewhere(served)
        return answers

    def upsert(self, descriptors: GlobalDescriptors, metadata: Sequence[Mapping[str, str]]) -> None:
        """See `VectorStore.upsert`; a Pinecone index that does not exist yet is made.

        Raises RelookError also for metadata of more than 40 KB or with a reserved name, before any of 1,000 is sent.
        """
        check_upsert(descriptors, metadata, self._card.dimension)
        if not len(descriptors.ids):
            return
        served = self._existing(make=True)
        self._models.register(served, self._sending)
        for first in range(0, len(metadata), RECORDS):
            some = slice(first, first + RECORDS)
            parts = descriptors.ids[some], descriptors.vectors[some], metadata[some]
            items, sizes = items_of(served.records, *parts)
            with speaking(self._service.name):
                self._wrote(served.records.write(self._space, items, sizes, self._sending))

    def fetch(self, ids: Sequence[str]) -> FloatArray:
        """See `VectorStore.fetch`."""
        found = self._fetch(ids, metadata=False)
        for name in ids:
            if name not in found:
                raise RelookError(f"{self.place()}: holds no id {name!r}")
        return self._stack(found[name] for name in ids)

    def read(self, ids: Sequence[str]) -> StoredVectors:
        """See `VectorStore.read`."""
        found = self._fetch(ids, metadata=True)
        names = [name for name in ids if name in found]
        metadata = [metadata_of(found[name][1]) for name in names]
        return StoredVectors(names, self._stack(found[name] for name in names), metadata)

    def delete(self, ids: Sequence[str]) -> int:
        """See `VectorStore.delete`."""
        served = self._service.find()
        there = [stored_id(name) for name in self._fetch(ids, metadata=False)]
        for first in range(0, len(there), RECORDS):
            with speaking(self._service.name):
                some = there[first : first + RECORDS]
                self._wrote(served.records.delete(self._space, some) if served else None)
        return len(there)

    def ids(self) -> Iterator[str]:
        """All ids, sorted by code point; asked for page by page."""
        served = self._service.find()
        if served is not None:
            with speaking(self._service.name):
                yield from in_order(served.records.list(self._space), lambda some: self._originals(served, some))

    def stats(self) -> Mapping[str, Any]:
        """ "count" (which follows writes by seconds), "dimension", "fingerprint" and "place"."""
        fingerprint = self._card.fingerprint
        count = self.namespaces().get(fingerprint, 0)
        return {"count": count, "dimension": self._card.dimension, "fingerprint": fingerprint, "place": self.place()}

    def namespaces(self) -> Mapping[str, int]:
        """See `VectorStore.namespaces`: the models of this collection."""
        served = self._service.find()
        return {} if served is None else self._models.counts(served)

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

    def prune(self) -> Mapping[str, int]:
        """See `HostedStore.prune`."""
        return self._models.prune(self._existing())

    def import_parts(self, uri: str, tick: Callable[[float], None]) -> None:
        """See `HostedStore.import_parts`; a Pinecone index that does not exist yet is made for vectors."""
        served = self._existing(make=True, records="vectors")
        with speaking(self._service.name):
            import_parts(self._index, served, self._space, uri, self._import_wait, tick)
        self._models.register(served, self._sending)

    @property
    def _space(self) -> str:
        return self._models.namespace

    def _existing(self, make: bool = False, **changes: str) -> Served:
        name, dimension = self._service.name, self._card.dimension
        served = self._service.find()
        if served is None and make:
            served = self._service.create(dimension, **{**self._new, **changes})
        if served is None:
            raise RelookError(f"there is no Pinecone index {name}; run: relook upload --store pinecone")
        if served.dimension != dimension:
            raise RelookError(
                f"Pinecone index {name}: holds vectors of {served.dimension} values, and the model makes {dimension}; "
                "set store.pinecone.name to another one"
            )
        return served

    def _wrote(self, number: int | None) -> None:
        self._written = max(self._written, number or 0)

    def _seen(self) -> bool:
        """Whether a search sees all that was written here; where the service does not say, counts have to do."""
        if not self._written:
            return True
        probe = [1.0, *[0.0] * (self._card.dimension - 1)]
        with speaking(self._service.name):
            _, number = self._existing().records.search(self._space, probe, 1, None)
        return number is None or number >= self._written

    def _answer(
        self, served: Served, query: list[float], top_k: int, condition: Mapping[str, Any] | None
    ) -> tuple[list[str], FloatArray]:
        """One query: more is asked for until no tie stretches beyond what came back."""
        asked = min(top_k + _BEYOND, TOP_K)
        while True:
            with speaking(self._service.name):
                found, _ = served.records.search(self._space, query, asked, condition)
            scores = np.rint(np.array([score for _, score, _ in found]) * _STEPS) / _STEPS + 0.0  # no minus zero
            if len(found) < asked or asked == TOP_K or scores.min() < np.sort(scores)[-top_k]:
                break
            asked = min(4 * asked, TOP_K)
        hashed = [stored for stored, _, original in found if original is None and is_hashed(stored)]
        known = dict(zip(hashed, self._originals(served, hashed), strict=True))
        names = [original or known.get(stored) or original_id(stored) for stored, _, original in found]
        first = sorted(range(len(names)), key=lambda row: (-scores[row], names[row]))[:top_k]
        return [names[row] for row in first], np.clip(scores[first], -1, 1).astype(np.float32)

    def _fetch(self, ids: Sequence[str], metadata: bool) -> dict[str, tuple[FloatArray, Item]]:
        """What exists of `ids`, each once."""
        served = self._service.find()
        names = {stored_id(name): name for name in ids}
        found = {} if served is None else self._fetch_stored(served, list(names), metadata)
        return {names[stored]: one for stored, one in found.items()}

    def _fetch_stored(self, served: Served, ids: Sequence[str], metadata: bool) -> dict[str, tuple[FloatArray, Item]]:
        def fetch(batch: list[str]) -> dict[str, tuple[FloatArray, Item]]:
            with speaking(self._service.name):
                return served.records.fetch(self._space, batch, metadata)

        batches = served.records.fetching(self._card.dimension, metadata).batches(ids)
        return {name: one for part in self._at_once(fetch, batches) for name, one in part.items()}

    def _originals(self, served: Served, stored: Sequence[str]) -> list[str]:
        """What stored ids stand for; hashed ones are looked up."""
        found = self._fetch_stored(served, [one for one in stored if is_hashed(one)], metadata=True)
        names = []
        for one in stored:
            if is_hashed(one) and one not in found:
                raise RelookError(f"{self.place()}: the long id {one[:60]!r}... cannot be read yet; run it again")
            names.append(str(found[one][1][ORIGINAL]) if one in found else original_id(one))
        return names

    def _at_once(self, work: Callable[[One], Other], items: Iterable[One]) -> list[Other]:
        with ThreadPoolExecutor(self._sending.concurrency) as pool:
            return list(pool.map(work, items))

    def _stack(self, found: Iterable[tuple[FloatArray, Item]]) -> FloatArray:
        vectors = [vector for vector, _ in found]
        return np.stack(vectors) if vectors else np.zeros((0, self._card.dimension), np.float32)
