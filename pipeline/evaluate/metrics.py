"""The field's metrics over rankings, per query and as means in percent.

Used by every protocol of this room. AP is the rectangle rule (mean of the precision at each positive), the one of GLDv2
and of the Grocery figures; `revisited` uses trapezoids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatValues = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Scores:
    """Metrics of Q queries: per metric name an array [Q] of fractions in [0, 1].

    NaN for a query that cannot be scored, because it has no positive; means leave it out.
    """

    per_query: Mapping[str, FloatValues]

    @property
    def unscored(self) -> int:
        """The number of queries without a value in any metric."""
        return int(np.isnan(np.stack(list(self.per_query.values()))).all(axis=0).sum())

    def means(self) -> dict[str, float]:
        """Means over queries, as fractions."""
        return {name: float(values[~np.isnan(values)].mean()) for name, values in self.per_query.items()}

    def summary(self) -> dict[str, float]:
        """Means over queries, in percent, to two decimals."""
        return {name: round(100 * mean, 2) for name, mean in self.means().items()}


def average_precision(ranks: Sequence[int] | IntArray, positives: int) -> float:
    """AP by the rectangle rule.

    Args:
        ranks: places (from 0, ascending) of the positives in the ranking.
        positives: how many there are in all; missing ones count as not found.
    """
    if positives == 0:
        raise ValueError("a query without positives has no average precision")
    places = np.asarray(ranks, dtype=np.float64)
    return float((np.arange(1, len(places) + 1) / (places + 1)).sum() / positives)


def average_precision_at(places: IntArray, positives: int, depth: int) -> float:
    """AP by the rectangle rule over the first `depth` places, divided by min(positives, depth).

    The definition of AP@k of Google Landmarks v2 (Weyand et al., CVPR 2020, equation 2). Arguments as
    `average_precision`.
    """
    return average_precision(places[: np.searchsorted(places, depth)], min(positives, depth))


def recall_at(ranks: Sequence[int] | IntArray, k: int) -> float:
    """1 if a positive is among the first k places, else 0 (R@k of the metric-learning literature)."""
    return float(len(ranks) > 0 and ranks[0] < k)


def paired_difference(before: Scores, after: Scores) -> dict[str, float]:
    """Mean difference per metric over the same queries, in points, and beside it its standard error as NAME_se."""
    result: dict[str, float] = {}
    for name, old in before.per_query.items():
        difference = 100 * (after.per_query[name] - old)
        difference = difference[~np.isnan(difference)]
        spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
        result[name] = round(float(difference.mean()), 2)
        result[f"{name}_se"] = round(spread / len(difference) ** 0.5, 2)
    return result
