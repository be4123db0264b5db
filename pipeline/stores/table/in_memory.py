"""The vectors of one generation in memory, as one array.

Below `store.py`. Parts are read side by side, each straight into its rows of the array: it takes no more memory than
the vectors themselves.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.stores.index.vector_rows import VectorRows

Precision = Literal["float32", "float16"]


def load_vectors(rows: VectorRows, precision: Precision) -> npt.NDArray[np.floating[Any]]:
    """[N, D], row by row as `rows`; float16 halves the memory and rounds each value to 11 bits."""
    vectors: npt.NDArray[np.floating[Any]] = np.empty(rows.shape, precision)
    rows.read_all(vectors)
    return vectors
