"""The two APIs by which records of a Pinecone index are read and written, behind one protocol: documents and vectors.

Below the Pinecone store. New indexes declare a schema and hold documents; an index that was created by its dimension
alone holds vectors, the older kind, and has no other API. Batches, retries and Retry-After are the SDK's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pipeline.stores.pinecone.limits import ID_BYTES, METADATA_BYTES, PAGE, VALUE_BYTES, Fetching, records_per_request
from pipeline.stores.pinecone.requests import RequestSettings
from pipeline.types import FloatArray

if TYPE_CHECKING:
    from pinecone import Index as Client

# The field that holds an id which could only be stored as a hash.
ORIGINAL = "relook_id"

# A record as it is sent, and the metadata of one that is read.
Record = dict[str, Any]
# An id as it is stored, its score, and the original id where the reply has it.
Match = tuple[str, float, str | None]


class RecordApi(Protocol):
    """Reads and writes records of one index; ids are those that are stored (`ids.py`)."""

    @property
    def reserved(self) -> frozenset[str]:
        """Names that metadata must not have."""

    def record(self, stored: str, values: Sequence[float], metadata: Mapping[str, str]) -> Record:
        """A record as it is sent."""

    def write(
        self, namespace: str, records: Sequence[Record], sizes: Sequence[int], settings: RequestSettings
    ) -> int | None:
        """Write records, `sizes` bytes each; returns the last sequence number where the service gives one."""

    def search(
        self, namespace: str, vector: Sequence[float], top_k: int, condition: Mapping[str, Any] | None
    ) -> tuple[list[Match], int | None]:
        """The nearest, and the sequence number up to which writes were seen."""

    def fetching(self, dimension: int, metadata: bool) -> Fetching:
        """The limits of one `fetch`."""

    def fetch(self, namespace: str, ids: Sequence[str], metadata: bool) -> dict[str, tuple[FloatArray, Record]]:
        """Vectors and metadata of those ids that exist; without `metadata` these may be left out."""

    def delete(self, namespace: str, ids: Sequence[str]) -> int | None:
        """Delete ids; returns the sequence number where the service gives one."""

    def page(self, namespace: str, token: str | None) -> tuple[list[str], str | None]:
        """Ids of one page, sorted as all are, and the token of the next page; None after the last."""


class DocumentApi:
    """The documents of an index that declares its fields, one of them a dense vector, `field`."""

    def __init__(self, client: Client, field: str) -> None:
        self._documents, self._field = client.documents, field

    @property
    def reserved(self) -> frozenset[str]:
        """See `RecordApi.reserved`."""
        return frozenset({self._field, ORIGINAL})

    def record(self, stored: str, values: Sequence[float], metadata: Mapping[str, str]) -> Record:
        """See `RecordApi.record`."""
        return {"_id": stored, self._field: values, **metadata}

    def write(
        self, namespace: str, records: Sequence[Record], sizes: Sequence[int], settings: RequestSettings
    ) -> int | None:
        """See `RecordApi.write`."""
        upsert = partial(self._documents.batch_upsert, namespace=namespace)
        return _send_all(lambda some, how: upsert(documents=some, **how), records, sizes, settings)

    def search(
        self, namespace: str, vector: Sequence[float], top_k: int, condition: Mapping[str, Any] | None
    ) -> tuple[list[Match], int | None]:
        """See `RecordApi.search`."""
        clause = {"type": "dense_vector", "field": self._field, "values": vector}
        reply = self._documents.search(
            namespace=namespace, score_by=[clause], top_k=top_k, filter=condition, include_fields=[ORIGINAL]
        )
        return [(one.id, one.score or 0.0, one.get(ORIGINAL)) for one in reply.matches], _seen(reply)

    def fetching(self, dimension: int, metadata: bool) -> Fetching:
        """See `RecordApi.fetching`."""
        return Fetching(_reply_bytes(dimension, metadata), in_url=False)

    def fetch(self, namespace: str, ids: Sequence[str], metadata: bool) -> dict[str, tuple[FloatArray, Record]]:
        """See `RecordApi.fetch`."""
        shown = None if metadata else [self._field]
        reply = self._documents.fetch(namespace=namespace, ids=ids, include_fields=shown)
        found = {}
        for name, document in reply.documents.items():
            fields = document.to_dict()
            del fields["_id"]
            found[name] = np.asarray(fields.pop(self._field), dtype=np.float32), fields
        return found

    def delete(self, namespace: str, ids: Sequence[str]) -> int | None:
        """See `RecordApi.delete`."""
        return _committed(self._documents.delete(namespace=namespace, ids=ids))

    def page(self, namespace: str, token: str | None) -> tuple[list[str], str | None]:
        """See `RecordApi.page`."""
        pages = self._documents.list(namespace=namespace, limit=PAGE, pagination_token=token).pages()
        page = next(iter(pages))
        return [one.id for one in page.items], page.pagination_token


class VectorApi:
    """The vectors of an index of the older kind."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def reserved(self) -> frozenset[str]:
        """See `RecordApi.reserved`."""
        return frozenset({ORIGINAL})

    def record(self, stored: str, values: Sequence[float], metadata: Mapping[str, str]) -> Record:
        """See `RecordApi.record`."""
        return {"id": stored, "values": values, "metadata": dict(metadata)}

    def write(
        self, namespace: str, records: Sequence[Record], sizes: Sequence[int], settings: RequestSettings
    ) -> int | None:
        """See `RecordApi.write`."""
        upsert = partial(self._client.upsert, namespace=namespace)
        return _send_all(lambda some, how: upsert(vectors=some, **how), records, sizes, settings)

    def search(
        self, namespace: str, vector: Sequence[float], top_k: int, condition: Mapping[str, Any] | None
    ) -> tuple[list[Match], int | None]:
        """See `RecordApi.search`; metadata come all or not at all, so a hashed id has to be looked up."""
        reply = self._client.query(namespace=namespace, vector=vector, top_k=top_k, filter=condition)
        return [(one.id, one.score, None) for one in reply.matches], _seen(reply)

    def fetching(self, dimension: int, metadata: bool) -> Fetching:
        """See `RecordApi.fetching`; this API always returns whole records."""
        return Fetching(_reply_bytes(dimension, metadata=True), in_url=True)

    def fetch(self, namespace: str, ids: Sequence[str], metadata: bool) -> dict[str, tuple[FloatArray, Record]]:
        """See `RecordApi.fetch`."""
        reply = self._client.fetch(ids=ids, namespace=namespace)
        return {
            name: (np.asarray(one.values, dtype=np.float32), dict(one.metadata or {}))
            for name, one in reply.vectors.items()
        }

    def delete(self, namespace: str, ids: Sequence[str]) -> int | None:
        """See `RecordApi.delete`; this API gives no sequence number."""
        self._client.delete(ids=list(ids), namespace=namespace)
        return None

    def page(self, namespace: str, token: str | None) -> tuple[list[str], str | None]:
        """See `RecordApi.page`."""
        reply = self._client.list_paginated(namespace=namespace, limit=PAGE, pagination_token=token)
        return [one.id for one in reply.vectors if one.id], reply.pagination.next if reply.pagination else None


def _send_all(
    send: Callable[[Sequence[Record], dict[str, Any]], Any],
    records: Sequence[Record],
    sizes: Sequence[int],
    settings: RequestSettings,
) -> int | None:
    """Send until nothing failed: the SDK tries each batch several times, what still failed is sent again.

    Raises the first error that is not transient, or the last one after all resends.
    """
    size = records_per_request(sizes)
    how = {"batch_size": size, "max_concurrency": settings.concurrency, "show_progress": False}
    numbers: list[int] = []
    for round_ in range(settings.resends + 1):
        if round_:
            time.sleep(settings.resend_after)
        result = send(records, how)
        number = _committed(result)
        numbers += [] if number is None else [number]
        for failure in result.errors:
            if not failure.retryable:
                raise failure.error
        if not result.errors:
            return max(numbers, default=None)
        records = result.failed_items
    raise result.errors[0].error


def _committed(reply: Any) -> int | None:
    number: int | None = reply.response_info.lsn_committed if reply.response_info else None
    return number


def _seen(reply: Any) -> int | None:
    number: int | None = reply.response_info.lsn_reconciled if reply.response_info else None
    return number


def _reply_bytes(dimension: int, metadata: bool) -> int:
    return dimension * VALUE_BYTES + ID_BYTES + (METADATA_BYTES if metadata else 0)


def condition_of(where: Mapping[str, Iterable[str]] | None) -> Mapping[str, Any] | None:
    """A filter in Pinecone's syntax. A record without a key counts as one whose value is empty."""
    parts: list[dict[str, Any]] = []
    for key, values in (where or {}).items():
        some: dict[str, Any] = {key: {"$in": list(values)}}
        parts.append({"$or": [some, {key: {"$exists": False}}]} if "" in some[key]["$in"] else some)
    return parts[0] if len(parts) == 1 else {"$and": parts} if parts else None
