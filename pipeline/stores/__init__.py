"""Descriptors at rest: the index directory, and the vector stores that are searched.

Between `describe`, which makes descriptors, and the stages that look them up. The index directory is a set of
immutable parts and one manifest; docs/index-format.md is its specification.
"""

from pipeline.stores.index.directory import Index
from pipeline.stores.index.global_store import GlobalStore
from pipeline.stores.index.writer import IndexWriter
from pipeline.stores.registry import open_store
from pipeline.stores.table.store import TableStore

__all__ = ["GlobalStore", "Index", "IndexWriter", "TableStore", "open_store"]
