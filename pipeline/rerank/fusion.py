"""Fusion of a reranker's scores with the similarity that it was given.

Applied after every reranker of a chain. score = weight * similarity + (1 - weight) * reranked, the form that AMES uses
(Suma et al., ECCV 2024, section 4), where `weight` belongs to the global part.
"""

from __future__ import annotations

import numpy as np

from pipeline.types import FloatArray


def fuse(similarity: FloatArray, reranked: FloatArray, weight: float) -> FloatArray:
    """Both [K]; `weight` in [0, 1] is that of `similarity`: 1 keeps the old order, 0 trusts the reranker alone."""
    return np.asarray(weight * similarity + (1 - weight) * reranked, dtype=np.float32)
