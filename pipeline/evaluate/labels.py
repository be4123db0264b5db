"""The label protocol: whatever has the query's label is a positive, everything else is not.

One of the protocols that `evaluate --protocol` names. mAP is over all positives; R@1, R@5 and R@10 ask for one positive
among the first. Queries whose label nothing else has cannot be scored; they are counted and left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from pipeline.errors import RelookError
from pipeline.evaluate.metrics import Scores, average_precision, recall_at
from pipeline.types import Ranking

RECALLS = (1, 5, 10)


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
        excluded: per query the ids of the gallery that are no answers to it, because they are the query itself.

    Returns:
        The scores of the queries that have a positive, and how many queries have none.

    Raises:
        RelookError: no query has a positive.
    """
    sizes = Counter(gallery_labels.values())
    values: dict[str, list[float]] = {"mAP": [], **{f"R@{k}": [] for k in RECALLS}}
    for ranking, label, itself in zip(rankings, query_labels, excluded, strict=True):
        positives = sizes[label] - sum(gallery_labels.get(name) == label for name in itself) if label else 0
        if positives == 0:
            continue
        ranks = np.flatnonzero([gallery_labels[name] == label for name in ranking.ids])
        values["mAP"].append(average_precision(ranks, positives))
        for k in RECALLS:
            values[f"R@{k}"].append(recall_at(ranks, k))
    if not values["mAP"]:
        raise RelookError("no query has a positive in the gallery: labels are missing, or every label stands alone")
    scores = Scores({name: np.array(column) for name, column in values.items()})
    return scores, len(rankings) - len(values["mAP"])
