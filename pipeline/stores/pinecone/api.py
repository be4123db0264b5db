"""The two APIs by which an index of Pinecone is read and written, behind one: documents, and the older vectors.

Below the Pinecone store. New indexes declare a schema and hold documents; an index that was made by its dimension
alone holds vectors and answers to no other API. Batches, retries and Retry-After are the SDK's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pipeline.stores.pinecone.limits import ID_BYTES, METADATA_BYTES, PAGE, VALUE_BYTES, Fetching, records_per_request
from pipeline.types import FloatArray

if TYPE_CHECKING:
    from pinecone import Index as Client

# The field that holds an id which could only be stored as a hash.
ORIGINAL = "relook_id"

Item = dict[str, Any]
# An id as it is stored, its score, and what it stands for where the answer says so.
Match = tuple[str, float, str | None]


@dataclass(frozen=True)
class Sending:
    """How writes are sent: so many requests at once, what failed again so often, after so many seconds."""

    concurrency: int
    resends: int
    resend_after: float


class Records(Protocol):
    """What can be done with the records of one index; ids are those that are stored."""

    @property
    def reserved(self) -> frozenset[str]:
        """Names that no metadata may have."""

    def item(self, stored: str, values: Sequence[float], metadata: Mapping[str, str]) -> Item:
        """A record as it is sent."""

    def write(self, namespace: str, items: Sequence[Item], sizes: Sequence[int], sending: Sending) -> int | None:
        """Write records of so many bytes each; returns the last sequence number where the service gives one."""

    def search(
        self, namespace: str, vector: Sequence[float], top_k: int, condition: Mapping[str, Any] | None
    ) -> tuple[list[Match], int | None]:
        """The nearest, and the sequence number up to which writes were seen."""

    def fetching(self, dimension: int, metadata: bool) -> Fetching:
        """How much `fetch` may ask for."""

    def fetch(self, namespace: str, ids: Sequence[str], metadata: bool) -> dict[str, tuple[FloatArray, Item]]:
        """Vectors and metadata of those ids that exist; without `metadata` what is needed of it is left out."""

    def delete(self, namespace: str, ids: Sequence[str]) -> int | None:
        """Forget ids; returns the sequence number where the service gives one."""

    def list(self, namespace: str) -> Iterator[str]:
        """All ids, sorted."""


class Documents:
    """The documents of an index that declares its fields, among them one dense vector, `field`."""

    def __init__(self, client: Client, field: str) -> None:
        self._documents, self._field = client.documents, field

    @property
    def reserved(self) -> frozenset[str]:
        """See `Records.reserved`."""
        return frozenset({self._field, ORIGINAL})

    def item(self, stored: str, values: Sequence[float], metadata: Mapping[str, str]) -> Item:
        """See `Records.item`."""
        return {"_id": stored, self._field: values, **metadata}

    def write(self, namespace: str, items: Sequence[Item], sizes: Sequence[int], sending: Sending) -> int | None:
        """See `Records.write`."""
        upsert = partial(self._documents.batch_upsert, namespace=namespace)
        return _send_all(lambda some, how: upsert(documents=some, **how), items, sizes, sending)

    def search(
        self, namespace: str, vector: Sequence[float], top_k: int, condition: Mapping[str, Any] | None
    ) -> tuple[list[Match], int | None]:
        """See `Records.search`."""
        clause = {"type": "dense_vector", "field": self._field, "values": vector}
        reply = self._documents.search(
            namespace=namespace, score_by=[clause], top_k=top_k, filter=condition, include_fields=[ORIGINAL]
        )
        return [(one.id, one.score or 0.0, one.get(ORIGINAL)) for one in reply.matches], _seen(reply)

    def fetching(self, dimension: int, metadata: bool) -> Fetching:
        """See `Records.fetching`."""
        return Fetching(_reply_bytes(dimension, metadata), in_url=False)

    def fetch(self, namespace: str, ids: Sequence[str], metadata: bool) -> dict[str, tuple[FloatArray, Item]]:
        """See `Records.fetch`."""
        shown = None if metadata else [self._field]
        reply = self._documents.fetch(namespace=namespace, ids=ids, include_fields=shown)
        found = {}
        for name, document in reply.documents.items():
            fields = document.to_dict()
            del fields["_id"]
            found[name] = np.asarray(fields.pop(self._field), dtype=np.float32), fields
        return found

    def delete(self, namespace: str, ids: Sequence[str]) -> int | None:
        """See `Records.delete`."""
        return _committed(self._documents.delete(namespace=namespace, ids=ids))

    def list(self, namespace: str) -> Iterator[str]:
        """See `Records.list`."""
        return (one.id for one in self._documents.list(namespace=namespace, limit=PAGE))


class Vectors:
    """The records of an index of the older kind."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def reserved(self) -> frozenset[str]:
        """See `Records.reserved`."""
        return frozenset({ORIGINAL})

    def item(self, stored: str, values: Sequence[float], metadata: Mapping[str, str]) -> Item:
        """See `Records.item`."""
        return {"id": stored, "values": values, "metadata": dict(metadata)}

    def write(self, namespace: str, items: Sequence[Item], sizes: Sequence[int], sending: Sending) -> int | None:
        """See `Records.write`."""
        upsert = partial(self._client.upsert, namespace=namespace)
        return _send_all(lambda some, how: upsert(vectors=some, **how), items, sizes, sending)

    def search(
        self, namespace: str, vector: Sequence[float], top_k: int, condition: Mapping[str, Any] | None
    ) -> tuple[list[Match], int | None]:
        """See `Records.search`; metadata come all or not at all, so a hashed id has to be looked up."""
        reply = self._client.query(namespace=namespace, vector=vector, top_k=top_k, filter=condition)
        return [(one.id, one.score, None) for one in reply.matches], _seen(reply)

    def fetching(self, dimension: int, metadata: bool) -> Fetching:
        """See `Records.fetching`; this API always answers with all of a record."""
        return Fetching(_reply_bytes(dimension, metadata=True), in_url=True)

    def fetch(self, namespace: str, ids: Sequence[str], metadata: bool) -> dict[str, tuple[FloatArray, Item]]:
        """See `Records.fetch`."""
        reply = self._client.fetch(ids=ids, namespace=namespace)
        return {
            name: (np.asarray(one.values, dtype=np.float32), dict(one.metadata or {}))
            for name, one in reply.vectors.items()
        }

    def delete(self, namespace: str, ids: Sequence[str]) -> int | None:
        """See `Records.delete`; this API says nothing of where the write stands."""
        self._client.delete(ids=list(ids), namespace=namespace)
        return None

    def list(self, namespace: str) -> Iterator[str]:
        """See `Records.list`."""
        for page in self._client.list(namespace=namespace, limit=PAGE):
            yield from (one.id for one in page.vectors if one.id)


def _send_all(
    send: Callable[[Sequence[Item], dict[str, Any]], Any],
    items: Sequence[Item],
    sizes: Sequence[int],
    sending: Sending,
) -> int | None:
    """Send until nothing failed: the SDK has tried each batch several times, what is left is sent anew.

    Raises the first error that sending again cannot mend, or the last one that it did not.
    """
    size = records_per_request(sizes)
    how = {"batch_size": size, "max_concurrency": sending.concurrency, "show_progress": False}
    numbers: list[int] = []
    for round_ in range(sending.resends + 1):
        if round_:
            time.sleep(sending.resend_after)
        result = send(items, how)
        number = _committed(result)
        numbers += [] if number is None else [number]
        for failure in result.errors:
            if not failure.retryable:
                raise failure.error
        if not result.errors:
            return max(numbers, default=None)
        items = result.failed_items
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
    """A filter in Pinecone's words. A record without a key counts as one whose value is empty."""
    parts: list[dict[str, Any]] = []
    for key, values in (where or {}).items():
        some: dict[str, Any] = {key: {"$in": list(values)}}
        parts.append({"$or": [some, {key: {"$exists": False}}]} if "" in some[key]["$in"] else some)
    return parts[0] if len(parts) == 1 else {"$and": parts} if parts else None
