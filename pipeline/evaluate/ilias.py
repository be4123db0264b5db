"""ILIAS: mAP@1k of particular objects among distractors.

One of the protocols of this room. Follows Kordopatis-Zilos et al., "ILIAS: Instance-Level Image retrieval At Scale",
CVPR 2025, and the evaluation that its authors released: AP by the rectangle rule over the first 1,000 results, divided
by the smaller of 1,000 and the number of positives. The official code gives results of equal similarity one precision;
here a ranking has an order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import RelookError
from pipeline.evaluate.metrics import Scores, average_precision_at
from pipeline.evaluate.ranked_relevance import RankedRelevance

DEPTH = 1000


def score_instances(ranked: Sequence[RankedRelevance]) -> Scores:
    """ "mAP@1k" of each query; NaN for one without positives. Raises RelookError when no query has one."""
    sizes = [item.sizes["positive"] for item in ranked]
    if not any(sizes):
        raise RelookError("no query has a positive in the gallery")
    values = [
        average_precision_at(item.places["positive"], size, DEPTH) if size else np.nan
        for item, size in zip(ranked, sizes, strict=True)
    ]
    return Scores({"mAP@1k": np.array(values)})
