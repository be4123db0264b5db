"""What the test server of Pinecone keeps, in memory: indexes, namespaces, records, and when a write can be read.

Below `pinecone_server.py`, which speaks HTTP. What the service refuses is refused here: sizes, ids, fields, the wrong
API. Each namespace is a log of writes; a reader sees those that are older than the delay of its kind.
"""

from __future__ import annotations

import re
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

MAX_REQUEST = 2**21
MAX_REPLY = 2**22
MAX_METADATA = 40 * 2**10
MAX_RECORDS = 1000
MAX_TOP_K = 10_000
MAX_PAGE = 100
READERS = ("search", "fetch", "stats")

# A vector as the service keeps it, and all other fields.
Record = tuple[np.ndarray, dict[str, Any]]


class RefusedError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class View:
    """What one kind of reader sees."""

    records: dict[str, Record] = field(default_factory=dict)
    position: int = 0


class Namespace:
    """A log of writes and three views of it."""

    def __init__(self) -> None:
        self.log: list[tuple[float, dict[str, Record | None]]] = []
        self.views = {reader: View() for reader in READERS}

    def write(self, changes: dict[str, Record | None]) -> int:
        """Put records, or forget those that are None; returns the sequence number of this write."""
        self.log.append((time.monotonic(), changes))
        return len(self.log)

    def view(self, reader: str, delay: float) -> View:
        """What is older than `delay` seconds; its position is the last sequence number that it holds."""
        view = self.views[reader]
        while view.position < len(self.log) and self.log[view.position][0] + delay <= time.monotonic():
            for name, record in self.log[view.position][1].items():
                if record is None:
                    view.records.pop(name, None)
                else:
                    view.records[name] = record
            view.position += 1
        return view

    def everything(self) -> dict[str, Record]:
        """The records as they will be seen in the end."""
        records: dict[str, Record] = {}
        for _, changes in self.log:
            records |= {name: record for name, record in changes.items() if record is not None}
            for name, record in changes.items():
                if record is None:
                    records.pop(name, None)
        return records


class ServedIndex:
    """One index: its description, and its namespaces.

    Args:
        description: what the control plane answers.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        self.description = description
        self.namespaces: dict[str, Namespace] = {}
        self.imports: dict[str, dict[str, Any]] = {}
        self.delays = dict.fromkeys(READERS, 0.0)
        self.quota: int | None = None
        self.lock = threading.RLock()
        fields = description["schema"]["fields"]
        (self.field,) = (name for name, kind in fields.items() if kind["type"] == "dense_vector")
        self.dimension: int = fields[self.field]["dimension"]

    @property
    def kind(self) -> str:
        """Which API reads it: an index that declares nothing but `_values` is of the older kind."""
        return "vectors" if set(self.description["schema"]["fields"]) == {"_values"} else "documents"

    def need(self, kind: str) -> None:
        """Requests that are sent to the wrong API are refused."""
        if self.kind != kind:
            raise RefusedError(400, f"this index is read through the {self.kind} API, not through the {kind} API")

    def view(self, name: str, reader: str) -> View:
        """What a reader sees of a namespace; of one that does not exist, nothing."""
        known = self.namespaces.get(name)
        return View() if known is None else known.view(reader, self.delays[reader])

    def upsert(self, name: str, records: Sequence[tuple[Any, Any, dict[str, Any]]]) -> int:
        """Write (id, values, other fields) each, all or none; returns the sequence number."""
        if not 1 <= len(records) <= MAX_RECORDS:
            raise RefusedError(400, f"{len(records)} records; a request holds 1 to {MAX_RECORDS}")
        changes: dict[str, Record | None] = {}
        for identifier, values, metadata in records:
            check_id(identifier)
            check_metadata(identifier, metadata)
            changes[identifier] = (self._vector(identifier, values), metadata)
        if self.quota is not None:
            known = {(space, one) for space, kept in self.namespaces.items() for one in kept.everything()}
            if len(known | {(name, one) for one in changes}) > self.quota:
                raise RefusedError(403, "the storage quota of this project is used up; upgrade the plan")
        return self.namespaces.setdefault(name, Namespace()).write(changes)

    def delete(self, name: str, ids: Sequence[str]) -> int:
        """Forget these ids; returns the sequence number."""
        if not 1 <= len(ids) <= MAX_RECORDS:
            raise RefusedError(400, f"{len(ids)} ids; a request holds 1 to {MAX_RECORDS}")
        return self.namespaces.setdefault(name, Namespace()).write(dict.fromkeys(ids, None))

    def search(
        self, name: str, values: Any, top_k: Any, condition: Mapping[str, Any] | None
    ) -> tuple[list[tuple[str, float, Record]], int]:
        """The nearest by cosine, ties in no order that an id would give; and the sequence number that was seen."""
        if not isinstance(top_k, int) or not 1 <= top_k <= MAX_TOP_K:
            raise RefusedError(400, f"top_k = {top_k}; between 1 and {MAX_TOP_K}")
        query = self._vector("the query", values).astype(np.float64)
        view = self.view(name, "search")
        kept = [(one, record) for one, record in view.records.items() if matches(record[1], condition or {})]
        scored = []
        for one, record in kept:
            vector = record[0].astype(np.float64)
            score = float(np.float32(query @ vector / np.linalg.norm(query) / np.linalg.norm(vector)))
            scored.append((one, score, record))
        scored.sort(key=lambda item: (-item[1], zlib.crc32(item[0].encode())))
        return scored[:top_k], view.position

    def fetch(self, name: str, ids: Sequence[str]) -> dict[str, Record]:
        """The records of those ids that exist."""
        if not 1 <= len(ids) <= MAX_RECORDS:
            raise RefusedError(400, f"{len(ids)} ids; a request holds 1 to {MAX_RECORDS}")
        for identifier in ids:
            check_id(identifier)
        records = self.view(name, "fetch").records
        return {identifier: records[identifier] for identifier in ids if identifier in records}

    def page(self, name: str, limit: Any, token: str | None) -> tuple[list[str], str | None]:
        """Ids in order, and the token of the next page."""
        size = MAX_PAGE if limit is None else int(limit)
        if not 1 <= size <= MAX_PAGE:
            raise RefusedError(400, f"limit = {limit}; between 1 and {MAX_PAGE}")
        ids = sorted(self.view(name, "fetch").records)
        first = int(token or 0)
        return ids[first : first + size], (str(first + size) if first + size < len(ids) else None)

    def counts(self) -> dict[str, int]:
        """How many records each namespace is known to have."""
        return {name: len(self.view(name, "stats").records) for name in self.namespaces}

    def _vector(self, identifier: str, values: Any) -> np.ndarray:
        if not isinstance(values, list) or len(values) != self.dimension:
            found = len(values) if isinstance(values, list) else type(values).__name__
            raise RefusedError(400, f"vector of {identifier!r}: dimension {found} does not match {self.dimension}")
        vector = np.asarray(values, dtype=np.float32)
        if not vector.any():
            raise RefusedError(400, f"vector of {identifier!r}: dense vectors must contain at least one non-zero value")
        return vector


def check_id(identifier: Any) -> None:
    """An id is ASCII without NUL, 1 to 512 characters."""
    if not isinstance(identifier, str) or not re.fullmatch(r"[\x01-\x7f]{1,512}", identifier):
        raise RefusedError(400, f"id {identifier!r}: 1 to 512 ASCII characters")


def check_metadata(identifier: str, metadata: Mapping[str, Any]) -> None:
    """Fields are not reserved, not null, not nested, and together not too large."""
    size = len(orjson.dumps(metadata))
    if size > MAX_METADATA:
        raise RefusedError(
            400, f"metadata of {identifier!r}: {size} bytes, which exceeds the limit of {MAX_METADATA} bytes"
        )
    for key, value in metadata.items():
        if key.startswith(("_", "$")):
            raise RefusedError(400, f"field {key!r} of {identifier!r} is reserved")
        plain = isinstance(value, str | int | float | bool)
        if not plain and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            raise RefusedError(
                400, f"field {key!r} of {identifier!r} is neither text, number, boolean nor list of texts"
            )


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda have, asked: have == asked,
    "$in": lambda have, asked: have in asked,
    "$exists": lambda have, asked: (have is not None) == asked,
}


def matches(metadata: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
    """Whether a record passes a filter, as far as these operators go; others are refused."""
    for key, asked in condition.items():
        if key in ("$and", "$or"):
            answers = [matches(metadata, one) for one in asked]
            if not (all(answers) if key == "$and" else any(answers)):
                return False
        elif key.startswith("$") or not isinstance(asked, dict) or not set(asked) <= set(_OPERATORS):
            raise RefusedError(400, f"filter {key}: {asked!r} is not supported")
        elif not all(_OPERATORS[name](metadata.get(key), value) for name, value in asked.items()):
            return False
    return True
