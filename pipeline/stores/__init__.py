"""Descriptors at rest: the index directory, and the vector stores that are searched.

Between `describe`, which makes descriptors, and the stages that look them up. The index directory is a set of
immutable parts and one manifest; docs/index-format.md is its specification.
"""

from pipeline.stores.global_store import GlobalStore
from pipeline.stores.index import Index
from pipeline.stores.registry import open_store
from pipeline.stores.table_store import TableStore
from pipeline.stores.writer import IndexWriter

__all__ = ["GlobalStore", "Index", "IndexWriter", "TableStore", "open_store"]
