"""Rows of an index as records of Pinecone: ids, the shortest decimals of float32, metadata within the limits.

Below the Pinecone store. What the service would refuse is refused here first, with the id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import RelookError
from pipeline.stores.pinecone.ids import is_hashed, stored_id
from pipeline.stores.pinecone.limits import METADATA_BYTES, records_per_request, write_units
from pipeline.stores.pinecone.record_api import ORIGINAL, Record, RecordApi
from pipeline.types import FloatArray, StoredVectors, WriteCost


def records_of(
    api: RecordApi, ids: Sequence[str], vectors: FloatArray, metadata: Sequence[Mapping[str, str]]
) -> tuple[list[Record], list[int]]:
    """Records as they are sent, and their bytes in a request.

    Raises RelookError naming the id whose metadata are too large or have a reserved name.
    """
    records = []
    for name, values, entry in zip(ids, _decimals(vectors), metadata, strict=True):
        stored = stored_id(name)
        whole = {**entry, ORIGINAL: name} if is_hashed(stored) else entry
        _check(name, entry, whole, api.reserved)
        records.append(api.record(stored, values, whole))
    return records, [_bytes(record) for record in records]


def metadata_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a row, from the fields of its record."""
    return {key: value for key, value in fields.items() if key != ORIGINAL}


def cost_of(rows: StoredVectors) -> WriteCost:
    """The cost of writing these rows where none of them exists."""
    if not len(rows):
        return WriteCost()
    ids = [stored_id(name) for name in rows.ids]
    entries = [
        {**entry, ORIGINAL: name} if is_hashed(stored) else entry
        for name, stored, entry in zip(rows.ids, ids, rows.metadata, strict=True)
    ]
    parts = list(zip(ids, _decimals(rows.vectors), entries, strict=True))
    sent = [_bytes({"id": stored, "values": values, "metadata": entry}) for stored, values, entry in parts]
    kept = [len(stored) + 4 * len(values) + _bytes(entry) for stored, values, entry in parts]
    return WriteCost(len(rows), sum(sent), write_units(kept, records_per_request(sent)))


def _check(name: str, entry: Mapping[str, str], whole: Mapping[str, str], reserved: frozenset[str]) -> None:
    for key in entry:
        if key in reserved or key.startswith(("_", "$")) or not key:
            raise RelookError(f"the metadata of {name!r} have the name {key!r}, which Pinecone reserves")
    size = _bytes(whole)
    if size > METADATA_BYTES:
        raise RelookError(f"the metadata of {name!r} have {size} bytes; Pinecone takes at most {METADATA_BYTES}")


def _decimals(vectors: FloatArray) -> list[list[float]]:
    """Numbers whose decimals are those of float32, not of double: 12 characters of JSON each instead of 21."""
    import orjson

    values: list[list[float]] = orjson.loads(orjson.dumps(vectors, option=orjson.OPT_SERIALIZE_NUMPY))
    return values


def _bytes(value: Mapping[str, Any]) -> int:
    import orjson

    return len(orjson.dumps(dict(value)))
