"""Revisited Oxford and Paris: Easy, Medium and Hard, AP by trapezoids, and mean precision at k.

One of the protocols of this room; `official.rerank_orders` makes the re-ranked orders that papers report on it. Follows
Radenovic et al., "Revisiting Oxford and Paris", CVPR 2018, and the evaluation code that its authors released.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import RelookError, unknown_name
from pipeline.evaluate.metrics import IntArray, Scores
from pipeline.evaluate.ranked_relevance import RankedRelevance

# Per setup, which grades are positives; junk and the other grade are ignored, as if they were not in the ranking.
SETUPS = {"E": ("easy",), "M": ("easy", "hard"), "H": ("hard",)}
CUTOFFS = (1, 5, 10)


@dataclass(frozen=True)
class RevisitedTruth:
    """The ground truth of one query: three disjoint integer arrays of database rows; every other row is a negative.

    Attributes:
        easy: the landmark is clearly visible.
        hard: it is visible under difficult conditions.
        junk: too little of it is visible, or the image is the query itself.
    """

    easy: IntArray
    hard: IntArray
    junk: IntArray

    def positives(self, setup: str) -> IntArray:
        """The positives in `setup`, one of E, M, H. Raises UsageError for another name."""
        return self._rows(_grades(setup))

    def ignored(self, setup: str) -> IntArray:
        """The rows that do not count in `setup`, one of E, M, H."""
        return self._rows({"junk", "easy", "hard"} - set(_grades(setup)))

    def _rows(self, grades: Iterable[str]) -> IntArray:
        # An empty list becomes a float array, hence the type.
        return np.concatenate([np.asarray(getattr(self, grade), dtype=np.intp) for grade in grades])


def by_revisited(
    rankings: Iterable[IntArray],
    truths: Sequence[RevisitedTruth],
    setup: str,
    cutoffs: Sequence[int] = CUTOFFS,
) -> Scores:
    """Score rankings of database rows in one setup.

    The precision at k is the official one: k is lowered to the place of the last positive found, so it is not plain
    P@k. A ranking without any positive, where the official code fails, has AP 0 and precision 0.

    Args:
        rankings: one per query, database rows from 0, best first, each row at most once; they may be cut short, and
            missing positives count as not found.
        truths: one per query.
        setup: E, M or H.
        cutoffs: the k of mP@k.

    Returns:
        "mAP" and "mP@k"; NaN for queries without positives, which are left out of means.

    Raises:
        RelookError: no query has a positive in this setup, or a ranking has a negative number.
        UsageError: the setup is unknown.
    """
    rows = [
        _score(ranking, truth.positives(setup), truth.ignored(setup), cutoffs)
        for ranking, truth in zip(rankings, truths, strict=True)
    ]
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 1 + len(cutoffs))
    if np.isnan(table).all():
        raise RelookError(f"no query has a positive in setup {setup}: {' and '.join(SETUPS[setup])} are empty")
    return Scores(dict(zip(["mAP", *(f"mP@{k}" for k in cutoffs)], table.T, strict=True)))


def score_revisited(ranked: Sequence[RankedRelevance]) -> Scores:
    """All three setups at once: "mAP_E", "mP@1_E" and so on for E, M and H, as `by_revisited` scores each.

    A setup in which no query has a positive is left out.

    Raises:
        RelookError: no query has a positive in any setup.
    """
    columns: dict[str, list[float]] = {}
    for setup, grades in SETUPS.items():
        if not any(item.sizes[grade] for item in ranked for grade in grades):
            continue
        names = [f"mAP_{setup}", *(f"mP@{k}_{setup}" for k in CUTOFFS)]
        rows = [_score_places(*_places_in(item, grades), CUTOFFS) for item in ranked]
        columns |= dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    if not columns:
        raise RelookError("no query has a positive, easy or hard, in the gallery")
    return Scores({name: np.array(values) for name, values in columns.items()})


def trapezoid_average_precision(places: Sequence[int] | IntArray, positives: int) -> float:
    """AP by the trapezoid rule: at each positive the mean of the precision before and after it.

    Args:
        places: places (from 0, ascending) of the positives in the ranking, ignored rows not counted.
        positives: how many there are in all; missing ones count as not found.
    """
    if positives == 0:
        raise ValueError("a query without positives has no average precision")
    place = np.asarray(places, dtype=np.float64)
    found = np.arange(len(place), dtype=np.float64)
    # The precision before the first place is 1 by definition.
    before = np.divide(found, place, out=np.ones_like(place), where=place > 0)
    after = (found + 1) / (place + 1)
    return float((before + after).sum() / (2 * positives))


def places_of_positives(ranking: IntArray, positives: IntArray, ignored: IntArray) -> IntArray:
    """Places (from 0, ascending) of the positives in `ranking` after the ignored rows are removed."""
    if ranking.min(initial=0) < 0:
        raise RelookError(f"a ranking has the row {ranking.min()}; rows of the database count from 0")
    is_positive, is_ignored = np.uint8(1), np.uint8(2)
    # A table of all rows and one gather: a ranking of a million takes milliseconds.
    marks = np.zeros(1 + max(int(rows.max(initial=0)) for rows in (ranking, positives, ignored)), dtype=np.uint8)
    marks[positives] |= is_positive
    marks[ignored] |= is_ignored
    found = marks[ranking]
    marked = np.flatnonzero(found)
    found = found[marked]
    out = (found & is_ignored) > 0
    return (marked - (np.cumsum(out) - out))[(found & is_positive) > 0]


def _score(ranking: IntArray, positives: IntArray, ignored: IntArray, cutoffs: Sequence[int]) -> list[float]:
    """AP and the precision at each cutoff."""
    if len(positives) == 0:  # such a query may have a ranking of any kind
        return [float("nan")] * (1 + len(cutoffs))
    return _score_places(places_of_positives(np.asarray(ranking), positives, ignored), len(positives), cutoffs)


def _score_places(places: IntArray, positives: int, cutoffs: Sequence[int]) -> list[float]:
    if positives == 0:
        return [float("nan")] * (1 + len(cutoffs))
    return [trapezoid_average_precision(places, positives), *(_precision_at(places, k) for k in cutoffs)]


def _places_in(ranked: RankedRelevance, grades: Sequence[str]) -> tuple[IntArray, int]:
    """Places of the positives after ignored images are removed, and the number of positives."""
    positives = np.sort(np.concatenate([ranked.places[grade] for grade in grades]))
    ignored = np.sort(np.concatenate([ranked.places[grade] for grade in ranked.places.keys() - set(grades)]))
    return positives - np.searchsorted(ignored, positives), sum(ranked.sizes[grade] for grade in grades)


def _precision_at(places: IntArray, k: int) -> float:
    if len(places) == 0:
        return 0.0
    depth = min(k, int(places[-1]) + 1)
    return float(np.searchsorted(places, depth) / depth)


def _grades(setup: str) -> tuple[str, ...]:
    if setup not in SETUPS:
        raise unknown_name("setup", setup, SETUPS)
    return SETUPS[setup]
