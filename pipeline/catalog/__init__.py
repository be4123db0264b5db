"""Which images exist: a folder, a CSV or Parquet manifest, or a data set in its published layout.

First stage of the flow: `load_catalog` turns what the user names into a `Catalog` of `ImageRecord`s, and
`load_ground_truth` reads the ground truth that a data set publishes. docs/datasets.md shows the layouts. A data set is
one file here and one line in `registry.py`.
"""

from pipeline.catalog.base import Catalog
from pipeline.catalog.registry import load_catalog, load_ground_truth

__all__ = ["Catalog", "load_catalog", "load_ground_truth"]
