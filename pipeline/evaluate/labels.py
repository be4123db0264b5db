"""The label protocol: all images with the query's label are positives, all others are negatives.

One of the protocols of `evaluate --protocol`. mAP is over all positives; R@1, R@5 and R@10 are 1 if a positive is among
the first 1, 5 or 10. A query whose label is unique cannot be scored; such queries are counted and left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from pipeline.errors import RelookError
from pipeline.evaluate.metrics import Scores, average_precision, recall_at
from pipeline.evaluate.ranked_relevance import RankedRelevance, mark_relevance
from pipeline.types import Ranking

RECALLS = (1, 5, 10)


def score_labels(ranked: Sequence[RankedRelevance]) -> Scores:
    """mAP over all positives and R@1, R@5, R@10 of each query; NaN for a query without a positive.

    Raises:
        RelookError: no query has a positive.
    """
    rows = [_score(item) for item in ranked]
    if not any(item.sizes["positive"] for item in ranked):
        raise RelookError("no query has a positive in the gallery: labels are missing, or no label occurs twice")
    table = np.array(rows, dtype=np.float64).T
    return Scores(dict(zip(["mAP", *(f"R@{k}" for k in RECALLS)], table, strict=True)))


def by_labels(
    rankings: Sequence[Ranking],
    query_labels: Sequence[str],
    gallery_labels: Mapping[str, str],
    excluded: Sequence[Collection[str]],
) -> tuple[Scores, int]:
    """Score rankings.

    Args:
        rankings: one per query, each over the whole gallery without what is excluded for it.
        query_labels: the label of each query.
        gallery_labels: label by id for the whole gallery; "" is a distractor.
        excluded: per query the ids of the gallery that are the query itself.

    Returns:
        The scores of the queries that have a positive, and how many queries have none.

    Raises:
        RelookError: no query has a positive.
    """
    ids_of: dict[str, set[str]] = {}
    for name, label in gallery_labels.items():
        ids_of.setdefault(label, set()).add(name)
    ranked = [
        mark_relevance(ranking, {"positive": ids_of.get(label, set()).difference(itself) if label else ()})
        for ranking, label, itself in zip(rankings, query_labels, excluded, strict=True)
    ]
    scores = score_labels(ranked)
    scored = ~np.isnan(scores.per_query["mAP"])
    return Scores({name: values[scored] for name, values in scores.per_query.items()}), int((~scored).sum())


def _score(ranked: RankedRelevance) -> list[float]:
    places, positives = ranked.places["positive"], ranked.sizes["positive"]
    if positives == 0:
        return [float("nan")] * (1 + len(RECALLS))
    return [average_precision(places, positives), *(recall_at(places, k) for k in RECALLS)]
