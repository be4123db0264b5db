"""Relevance feedback: a query moves towards images that a user likes and away from others.

Rocchio, "Relevance Feedback in Information Retrieval", in: The SMART Retrieval System, 1971; the weights are those of
Manning, Raghavan, Schutze, "Introduction to Information Retrieval", 2008, section 9.1.1 (equation 9.3):

    q' = q + beta * mean(liked) - gamma * mean(unliked)

No reranker: the changed query is searched, and re-ranked like any other. Called by `pipeline.workflow.searching`.
"""

from __future__ import annotations

import numpy as np

from pipeline.errors import UsageError
from pipeline.types import FloatArray


def rocchio(
    query: FloatArray | None, liked: FloatArray, unliked: FloatArray, beta: float = 0.75, gamma: float = 0.15
) -> FloatArray:
    """The changed query [D] float32 of unit length.

    Args:
        query: [D] of unit length; None: the liked images alone are the query.
        liked, unliked: [n, D] of unit length; one of them may have no rows.
        beta, gamma: weights of their means; the query's own is 1.

    Raises:
        UsageError: there is neither a query nor a liked image, or nothing is left of the query.
    """
    if query is None and not len(liked):
        raise UsageError("unlike: give a query or an image that it should be like as well")
    moved = np.zeros(liked.shape[1], np.float64) if query is None else query.astype(np.float64)
    if len(liked):
        moved = moved + beta * liked.mean(axis=0, dtype=np.float64)
    if len(unliked):
        moved = moved - gamma * unliked.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(moved))
    if length < 1e-6:
        raise UsageError("like, unlike: the images cancel each other out; nothing is left of the query")
    return np.asarray(moved / length, np.float32)
