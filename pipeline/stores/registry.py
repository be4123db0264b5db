"""Which store `--store NAME` opens. A new store is one file in this room and one line here.

A store's module is imported when one is opened: a search of the table does without those of services.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pipeline.errors import unknown_name
from pipeline.stores.index.directory import Index
from pipeline.stores.index.manifest import TableFormat
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
    module, _, name = STORES[kind].partition(":")
    store: VectorStore = getattr(import_module(module), name)(index, **options)
    return store


def table_format(kind: str) -> TableFormat:
    """How an index made for this store writes its tables."""
    if kind not in STORES:
        raise unknown_name("store", kind, STORES)
    return "csv" if kind == "csv" else "parquet"


# "MODULE:CLASS" of each.
STORES: dict[str, str] = {
    "table": "pipeline.stores.table.store:TableStore",
    "csv": "pipeline.stores.table.store:CSVStore",
    "pinecone": "pipeline.stores.pinecone.store:PineconeStore",
    "ann": "pipeline.stores.ann.store:AnnStore",
}
