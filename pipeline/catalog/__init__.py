"""Which images exist: a folder, a CSV or Parquet manifest, or a data set in its published layout.

First stage of the flow: `load_catalog` turns what the user points at into a `Catalog` of `ImageRecord`s.
A data set is one file here and one line in `registry.py`.
"""

from pipeline.catalog.base import Catalog
from pipeline.catalog.registry import load_catalog

__all__ = ["Catalog", "load_catalog"]
