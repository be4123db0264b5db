"""Precision over recall: what a page and a figure show of a ranking beyond its metrics.

Used by `workflow.evaluation`, with the places that `mark_relevance` found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.evaluate.metrics import FloatValues, IntArray

# Recall from 0 to 1 in steps of 0.05.
RECALL_LEVELS: FloatValues = np.linspace(0, 1, 21)


def interpolated_precision(
    places: Sequence[int] | IntArray, positives: int, levels: FloatValues = RECALL_LEVELS
) -> FloatValues:
    """The highest precision at each recall level or above; 0 at a level that the ranking does not reach.

    Manning, Raghavan, Schütze, Introduction to Information Retrieval (2008), section 8.4.

    Args:
        places: from 0, ascending, of the positives in the ranking.
        positives: how many there are in all, at least 1.
        levels: [L] of recall, in [0, 1].
    """
    ranks = np.asarray(places, dtype=np.float64) + 1
    found = np.arange(1, len(ranks) + 1)
    best = np.maximum.accumulate((found / ranks)[::-1])[::-1]
    # The first place with at least this recall; a sum such as 0.15 * 20 must not round past a whole number.
    first = np.searchsorted(found, np.ceil(levels * positives - 1e-9))
    return np.append(best, 0.0)[np.minimum(first, len(best))]
