"""Which store `--store NAME` opens. A new store is one file in this room and one line here."""

from __future__ import annotations

from typing import Any, Protocol

from pipeline.errors import unknown_name
from pipeline.stores.ann.store import AnnStore
from pipeline.stores.index.directory import Index
from pipeline.stores.index.manifest import TableFormat
from pipeline.stores.pinecone.store import PineconeStore
from pipeline.stores.table.store import CSVStore, TableStore
from pipeline.types import VectorStore


class StoreClass(Protocol):
    """A class of stores: its traits, and how one is opened for an index."""

    index_backed: bool
    hosted: bool

    def __call__(self, *arguments: Any, **options: Any) -> VectorStore:
        """Open the store for an `Index`, with the options of its section. Raises RelookError when it cannot."""


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


def is_index_backed(kind: str) -> bool:
    """Whether a kind of store reads the index's own tables; see `VectorStore`. Raises UsageError: no such store."""
    if kind not in STORES:
        raise unknown_name("store", kind, STORES)
    return STORES[kind].index_backed


def table_format(kind: str) -> TableFormat:
    """How an index made for this store writes its tables."""
    if kind not in STORES:
        raise unknown_name("store", kind, STORES)
    return "csv" if kind == "csv" else "parquet"


STORES: dict[str, StoreClass] = {
    "table": TableStore,
    "csv": CSVStore,
    "pinecone": PineconeStore,
    "ann": AnnStore,
}
