"""What every store refuses, whatever it is made of: queries that are no directions, vectors that are no descriptors.

Called by each store before anything is written or searched, so that all of them say the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.errors import RelookError
from pipeline.types import FloatArray, GlobalDescriptors

# How far the length of a descriptor may be from 1: what float16 leaves of a unit vector is within this.
_LENGTH_ERROR = 1e-3


def check_upsert(descriptors: GlobalDescriptors, metadata: Sequence[Mapping[str, str]], dimension: int) -> None:
    """Raises RelookError, naming the id, unless these are N unit vectors [N, `dimension`] of N ids, with N metadata."""
    ids, vectors = descriptors.ids, descriptors.vectors
    if len(metadata) != len(ids):
        raise RelookError(f"an upsert holds {len(ids)} ids and metadata of {len(metadata)}")
    if vectors.ndim != 2 or len(vectors) != len(ids):
        raise RelookError(f"vectors of shape {vectors.shape} for {len(ids)} ids; expected [N, {dimension}]")
    if len(ids) and vectors.shape[1] != dimension:
        raise RelookError(f"the vector of {ids[0]!r} has {vectors.shape[1]} values; this store holds {dimension}")
    if len(set(ids)) != len(ids):
        twice, _ = Counter(ids).most_common(1)[0]
        raise RelookError(f"duplicate id {twice!r} in what is written")
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < _LENGTH_ERROR))  # so that NaN is wrong
    if len(wrong):
        row = int(wrong[0])
        if not np.isfinite(lengths[row]):
            raise RelookError(f"the vector of {ids[row]!r} holds NaN or infinity")
        raise RelookError(f"the vector of {ids[row]!r} has length {lengths[row]:.4g}; descriptors have unit length")


def check_query(vectors: FloatArray, top_k: int, dimension: int) -> npt.NDArray[np.float64]:
    """Queries [Q, `dimension`] in float64, scaled to unit length.

    Raises RelookError for another shape, for NaN, infinity and vectors of length 0, and for a `top_k` below 1.
    """
    if top_k < 1:
        raise RelookError(f"top_k = {top_k}: expected at least 1")
    if vectors.ndim != 2 or vectors.shape[1] != dimension:
        raise RelookError(f"queries of shape {vectors.shape}; this store holds vectors of {dimension} values")
    if not np.isfinite(vectors).all():
        raise RelookError("a query vector holds NaN or infinity")
    queries = vectors.astype(np.float64)
    lengths: npt.NDArray[np.float64] = np.linalg.norm(queries, axis=1, keepdims=True)
    if not lengths.all():
        raise RelookError("a query vector has length 0")
    return queries / lengths
