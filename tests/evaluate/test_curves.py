"""Interpolated precision against the definition, place by place."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluate import RECALL_LEVELS, interpolated_precision


def by_definition(places: list[int], positives: int, level: float) -> float:
    """The highest precision at any cut of the ranking whose recall is at least `level`."""
    cuts = [(n / positives, n / (place + 1)) for n, place in enumerate(places, 1)]
    return max((precision for recall, precision in cuts if recall >= level - 1e-9), default=0.0)


@pytest.mark.parametrize(
    ("places", "positives"), [([0], 1), ([0, 2, 5], 3), ([1, 2, 3, 9], 5), ([], 2), ([7], 20), (list(range(20)), 20)]
)
def test_it_is_the_best_precision_at_each_recall_or_above(places: list[int], positives: int) -> None:
    found = interpolated_precision(places, positives)
    assert found == pytest.approx([by_definition(places, positives, level) for level in RECALL_LEVELS])


def test_it_never_rises() -> None:
    places = np.sort(np.random.default_rng(0).permutation(500)[:37])
    assert (np.diff(interpolated_precision(places, 37)) <= 0).all()
