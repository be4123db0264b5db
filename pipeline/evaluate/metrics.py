"""The field's metrics over rankings, per query and as means in percent.

Used by every protocol of this room. AP is the rectangle rule (mean of the precision at each positive), the one of GLDv2
and of the Grocery figures; protocols that use another say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatValues = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Metrics of Q queries: per metric name an array [Q] of fractions in [0, 1]."""

    per_query: Mapping[str, FloatValues]

    def summary(self) -> dict[str, float]:
        """Means over queries, in percent."""
        return {name: round(100 * float(values.mean()), 2) for name, values in self.per_query.items()}


def average_precision(ranks: Sequence[int] | npt.NDArray[np.intp], positives: int) -> float:
    """AP by the rectangle rule.

    Args:
        ranks: places (from 0, ascending) of the positives that the ranking holds.
        positives: how many there are in all; those that the ranking lacks count as never found.
    """
    if positives == 0:
        raise ValueError("a query without positives has no average precision")
    places = np.asarray(ranks, dtype=np.float64)
    return float((np.arange(1, len(places) + 1) / (places + 1)).sum() / positives)


def recall_at(ranks: Sequence[int] | npt.NDArray[np.intp], k: int) -> float:
    """1 if a positive is among the first k places, else 0 (R@k of the metric-learning literature)."""
    return float(len(ranks) > 0 and ranks[0] < k)


def paired_difference(before: Scores, after: Scores) -> dict[str, float]:
    """Mean difference per metric over the same queries, in points, and beside it its standard error as NAME_se."""
    result: dict[str, float] = {}
    for name, old in before.per_query.items():
        difference = 100 * (after.per_query[name] - old)
        spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
        result[name] = round(float(difference.mean()), 2)
        result[f"{name}_se"] = round(spread / len(difference) ** 0.5, 2)
    return result
