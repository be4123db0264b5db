"""Which store `--store NAME` opens. A new store is one file in this room and one line here.

An entry is a class, or "MODULE:CLASS", which is imported when a store is opened: a search of the table does without the
modules of services.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from pipeline.errors import unknown_name
from pipeline.stores.index.directory import Index
from pipeline.stores.index.manifest import TableFormat
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
    made_by = STORES[kind]
    if isinstance(made_by, str):
        module, _, name = made_by.partition(":")
        made_by = getattr(import_module(module), name)
    store: VectorStore = made_by(index, **options)
    return store


def table_format(kind: str) -> TableFormat:
    """How an index made for this store writes its tables."""
    if kind not in STORES:
        raise unknown_name("store", kind, STORES)
    return "csv" if kind == "csv" else "parquet"


STORES: dict[str, StoreClass | str] = {
    "table": "pipeline.stores.table.store:TableStore",
    "csv": "pipeline.stores.table.store:CSVStore",
    "pinecone": "pipeline.stores.pinecone.store:PineconeStore",
    "ann": "pipeline.stores.ann.store:AnnStore",
}
