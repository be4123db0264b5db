"""Recall at k of Stanford Online Products (SOP) and other metric-learning sets, and the exact search below it.

One of the protocols of this room. Follows the evaluation of Reranking Transformers (Tan et al., ICCV 2021), which
follows the metric-learning literature since Song et al., CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import RelookError
from pipeline.evaluate.metrics import IntArray, Scores, recall_at
from pipeline.evaluate.ranked_relevance import RankedRelevance
from pipeline.types import FloatArray

RERANK_DEPTH = 100
_BLOCK_VALUES = 8_000_000
# How many more than needed the fast pass keeps, so that its rounding decides nothing.
_SPARE = 16


def by_products(
    neighbours: IntArray, query_labels: npt.NDArray[Any], gallery_labels: npt.NDArray[Any], ks: Sequence[int]
) -> Scores:
    """Recall at k: 1 if one of the first k neighbours has the query's class. A query alone in its class counts as 0.

    Args:
        neighbours: [Q, K] gallery rows, nearest first, without the query itself.
        query_labels, gallery_labels: [Q] and [N].
        ks: each at most K.

    Returns:
        "R@k" for each k, 0 or 1 per query. The published figures are its `summary()`.

    Raises:
        RelookError: some k is larger than K.
    """
    if max(ks) > neighbours.shape[1]:
        raise RelookError(f"recall at {max(ks)} needs as many neighbours, and there are {neighbours.shape[1]}")
    same = np.asarray(gallery_labels)[neighbours] == np.asarray(query_labels)[:, None]
    return Scores({f"R@{k}": same[:, :k].any(axis=1).astype(np.float64) for k in ks})


def score_products(ranked: Sequence[RankedRelevance], ks: Sequence[int]) -> Scores:
    """ "R@k" for each k, 0 or 1 per query. No query is left out, as in `by_products`.

    1, 10, 100, 1000 are the literature's k for products, 1, 2, 4, 8 for birds and cars (Song et al., CVPR 2016).
    The official search drops the first result whatever it is; here a ranking is without the query itself.

    Raises:
        RelookError: no query has another image of its class.
    """
    if not any(item.sizes["positive"] for item in ranked):
        raise RelookError("no query has another image of its class in the gallery")
    return Scores({f"R@{k}": np.array([recall_at(item.places["positive"], k) for item in ranked]) for k in ks})


def neighbours_within(features: FloatArray, k: int, cosine: bool = True) -> tuple[IntArray, FloatArray]:
    """The k nearest neighbours of each row of one set [N, D] by the official rule.

    It drops the first result of each search instead of the query itself: of two equal vectors the later one finds the
    earlier first, drops it, and keeps itself as a neighbour of its own class.

    Returns:
        As `nearest_neighbours`.
    """
    rows, distances = nearest_neighbours(features, features, k + 1, cosine)
    return rows[:, 1:], distances[:, 1:]


def nearest_neighbours(
    queries: FloatArray, gallery: FloatArray, k: int, cosine: bool = True
) -> tuple[IntArray, FloatArray]:
    """Exact search by Euclidean distance.

    Args:
        queries, gallery: [Q, D] and [N, D] float32.
        k: at most N.
        cosine: normalise all vectors to unit length first, which makes the order that of the cosine.

    Returns:
        Gallery rows [Q, k], nearest first, equal distances by row; and squared distances [Q, k] float32.

    Raises:
        RelookError: k is larger than N.
    """
    if k > len(gallery):
        raise RelookError(f"k = {k} neighbours, but the gallery holds {len(gallery)} vectors")
    if cosine:
        queries, gallery = _unit(queries), _unit(gallery)
    kept = min(len(gallery), k + _SPARE)
    block = max(1, _BLOCK_VALUES // max(len(gallery), kept * gallery.shape[1]))
    halves = 0.5 * np.einsum("nd,nd->n", gallery, gallery)
    found = [
        _nearest_of_block(queries[start : start + block], gallery, halves, k, kept)
        for start in range(0, len(queries), block)
    ]
    if not found:
        return np.empty((0, k), dtype=np.intp), np.empty((0, k), dtype=np.float32)
    return np.concatenate([rows for rows, _ in found]), np.concatenate([distances for _, distances in found])


def reranked_neighbours(neighbours: IntArray, scores: FloatArray, depth: int = RERANK_DEPTH) -> IntArray:
    """The first `depth` neighbours sorted by a reranker's score alone; the rest is dropped, as in the official code.

    Args:
        neighbours: [Q, K] gallery rows, nearest first.
        scores: [Q, at least min(depth, K)] beside them, higher is better; equal scores keep their order.
        depth: recalls beyond it cannot be computed.

    Returns:
        [Q, min(depth, K)] gallery rows.
    """
    head = neighbours[:, :depth]
    order = np.argsort(-scores[:, : head.shape[1]], axis=1, kind="stable")
    return np.take_along_axis(head, order, axis=1)


def _nearest_of_block(
    queries: FloatArray, gallery: FloatArray, halves: FloatArray, k: int, kept: int
) -> tuple[IntArray, FloatArray]:
    """A matrix product chooses `kept` candidates; their exact distances follow, so that equal vectors are equal."""
    far = queries @ gallery.T
    np.subtract(halves, far, out=far)
    rows = np.argpartition(far, kept - 1, axis=1)[:, :kept] if kept < len(gallery) else np.arange(kept)[None]
    rows = np.sort(np.broadcast_to(rows, (len(queries), kept)), axis=1)
    gaps = gallery[rows]
    gaps -= queries[:, None]
    distances = np.square(gaps, out=gaps).sum(axis=2)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _unit(vectors: FloatArray) -> FloatArray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)
