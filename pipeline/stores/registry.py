"""Which store `--store NAME` opens. A new store is one file in this room and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.errors import RelookError, unknown_name
from pipeline.stores.ann.store import AnnStore
from pipeline.stores.index.directory import Index
from pipeline.stores.index.manifest import TableFormat
from pipeline.stores.pinecone.store import PineconeStore
from pipeline.stores.table.store import TableStore
from pipeline.types import VectorStore


def open_store(kind: str, index: Index, **options: Any) -> VectorStore:
    """Open the store that holds the global descriptors of an index.

    Args:
        kind: a registry name.
        index: the index whose descriptors are searched.
        options: of that store; see its section of the configuration.

    Raises:
        UsageError: no such store.
        RelookError: the store does not hold this index.
    """
    if kind not in STORES:
        raise unknown_name("store", kind, STORES)
    return STORES[kind](index, **options)


def table_format(kind: str) -> TableFormat:
    """How an index made for this store writes its tables."""
    if kind not in STORES:
        raise unknown_name("store", kind, STORES)
    return "csv" if kind == "csv" else "parquet"


def _open_csv(index: Index, **options: Any) -> VectorStore:
    if index.manifest.tables != "csv":
        raise RelookError(f"{index.directory}: its tables are Parquet; extract with --set store.kind=csv for CSV")
    return TableStore(index, **options)


STORES: dict[str, Callable[..., VectorStore]] = {
    "table": TableStore,
    "csv": _open_csv,
    "pinecone": PineconeStore,
    "ann": AnnStore,
}
