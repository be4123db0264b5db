"""Metrics: against slow references, cases worked out by hand, and the label protocol with its exclusions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RelookError
from pipeline.evaluate import Scores, average_precision, by_labels, paired_difference
from pipeline.evaluate.metrics import recall_at
from pipeline.types import Ranking


def slow_average_precision(relevant: Sequence[bool], missing: int) -> Fraction:
    """Walk down the list; at each positive note the precision so far; positives never met add nothing."""
    met, total = 0, Fraction(0)
    for place, is_positive in enumerate(relevant, start=1):
        if is_positive:
            met += 1
            total += Fraction(met, place)
    return total / (met + missing)


def ranking(query: str, ids: Sequence[str]) -> Ranking:
    return Ranking(query, list(ids), np.linspace(1, 0, len(ids), dtype=np.float32))


def scores(**columns: Sequence[float]) -> Scores:
    return Scores({name: np.array(values, dtype=np.float64) for name, values in columns.items()})


# --- average precision and recall -------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 10))
def test_average_precision_equals_the_slow_one(relevant: list[bool], missing: int) -> None:
    if sum(relevant) + missing == 0:
        relevant = [*relevant, True]
    result = average_precision(np.flatnonzero(relevant), sum(relevant) + missing)
    assert result == pytest.approx(float(slow_average_precision(relevant, missing)), abs=1e-12)
    assert 0 <= result <= 1


@pytest.mark.parametrize(
    ("ranks", "positives", "wanted"),
    [
        ([0], 1, 1.0),
        ([0, 1, 2], 3, 1.0),
        ([1], 1, 1 / 2),
        ([0, 2], 2, (1 + 2 / 3) / 2),
        ([0, 2], 4, (1 + 2 / 3) / 4),
        ([2, 4, 9], 3, (1 / 3 + 2 / 5 + 3 / 10) / 3),
        ([], 5, 0.0),
        ([999_999], 1, 1e-6),
    ],
)
def test_average_precision_by_hand(ranks: list[int], positives: int, wanted: float) -> None:
    assert average_precision(ranks, positives) == pytest.approx(wanted, rel=1e-12)
    assert isinstance(average_precision(ranks, positives), float)


def test_it_is_the_rectangle_rule_and_not_the_trapezoid_one() -> None:
    """Positives at places 2 and 3: 7/12 here, 5/12 by the trapezoids of the Oxford and Paris protocol."""
    assert average_precision([1, 2], 2) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_without_positives_there_is_no_average_precision() -> None:
    with pytest.raises(ValueError, match="without positives"):
        average_precision([], 0)


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 40))
def test_recall_asks_for_one_positive_among_the_first(relevant: list[bool], k: int) -> None:
    assert recall_at(np.flatnonzero(relevant), k) == float(any(relevant[:k]))


# --- summaries and differences ----------------------------------------------------------------------------------------


def test_a_summary_is_in_percent() -> None:
    assert scores(**{"mAP": [0.5, 1.0, 0.0], "R@1": [1.0, 1.0, 0.0]}).summary() == {"mAP": 50.0, "R@1": 66.67}


def test_a_difference_is_paired() -> None:
    """Differences of 10, 20 and 60 points: mean 30, deviation sqrt(1400 / 2), standard error that over sqrt(3)."""
    before, after = scores(mAP=[0.1, 0.5, 0.3]), scores(mAP=[0.2, 0.7, 0.9])
    assert paired_difference(before, after) == {"mAP": 30.0, "mAP_se": round((700 / 3) ** 0.5, 2)}
    assert paired_difference(after, before)["mAP"] == -30.0


def test_what_both_have_in_common_does_not_widen_the_error() -> None:
    before, after = scores(mAP=[0.0, 0.5, 0.9]), scores(mAP=[0.1, 0.6, 1.0])
    assert paired_difference(before, after) == {"mAP": 10.0, "mAP_se": 0.0}


def test_every_metric_has_a_difference_and_an_error() -> None:
    both = scores(**{"mAP": [0.2, 0.4], "R@1": [0.0, 1.0]})
    assert paired_difference(both, both) == {"mAP": 0, "mAP_se": 0, "R@1": 0, "R@1_se": 0}


def test_one_query_has_no_spread() -> None:
    assert paired_difference(scores(mAP=[0.2]), scores(mAP=[0.5])) == {"mAP": 30.0, "mAP_se": 0.0}


# --- the label protocol -----------------------------------------------------------------------------------------------

GALLERY = {"a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "b", "c1": "c", "d1": "", "d2": ""}


def test_labels_by_hand() -> None:
    """Every image of the gallery queries the others; places of positives: a1 at 0 and 2, b1 at 6."""
    rankings = [
        ranking("a1", ["a2", "b1", "a3", "b2", "c1", "d1", "d2"]),
        ranking("b1", ["a1", "a2", "a3", "c1", "d1", "d2", "b2"]),
    ]
    result, without = by_labels(rankings, ["a", "b"], GALLERY, [{"a1"}, {"b1"}])
    assert without == 0
    assert result.per_query["mAP"].tolist() == pytest.approx([(1 + 2 / 3) / 2, 1 / 7])
    assert result.per_query["R@1"].tolist() == [1, 0]
    assert result.per_query["R@5"].tolist() == [1, 0]
    assert result.per_query["R@10"].tolist() == [1, 1]
    assert list(result.per_query) == ["mAP", "R@1", "R@5", "R@10"]


def test_the_query_itself_is_no_positive() -> None:
    """With itself taken out, a1 has two positives; a query from outside the gallery has three."""
    found = ["a2", "a3"]
    inside, _ = by_labels([ranking("a1", found)], ["a"], GALLERY, [{"a1"}])
    outside, _ = by_labels([ranking("new", found)], ["a"], GALLERY, [()])
    assert inside.per_query["mAP"].tolist() == [1.0]
    assert outside.per_query["mAP"].tolist() == pytest.approx([2 / 3])


def test_what_is_excluded_but_shows_something_else_takes_no_positive_away() -> None:
    excluded: list[Collection[str]] = [{"b1", "d1", "not in the gallery"}]
    result, _ = by_labels([ranking("q", ["a1", "a2", "a3"])], ["a"], GALLERY, excluded)
    assert result.per_query["mAP"].tolist() == [1.0]


def test_positives_that_the_ranking_lacks_count_as_never_found() -> None:
    result, _ = by_labels([ranking("q", ["b1", "a1"])], ["a"], GALLERY, [()])
    assert result.per_query["mAP"].tolist() == pytest.approx([1 / 2 / 3])
    empty, without = by_labels([ranking("q", [])], ["a"], GALLERY, [()])
    assert empty.per_query["mAP"].tolist() == [0.0]
    assert empty.per_query["R@10"].tolist() == [0.0]
    assert without == 0


def test_queries_without_positives_are_counted_and_left_out() -> None:
    """c1 stands alone, d1 is a distractor, "z" is no label of the gallery."""
    rankings = [ranking(name, ["a1", "d2"]) for name in ("c1", "d1", "z", "q")]
    excluded: list[Collection[str]] = [{"c1"}, {"d1"}, (), ()]
    result, without = by_labels(rankings, ["c", "", "z", "a"], GALLERY, excluded)
    assert without == 3
    assert result.per_query["R@1"].tolist() == [1.0]


def test_distractors_are_never_positives_of_each_other() -> None:
    with pytest.raises(RelookError, match="no query has a positive"):
        by_labels([ranking("d1", ["d2"])], [""], GALLERY, [{"d1"}])


def test_distractors_push_positives_down() -> None:
    result, _ = by_labels([ranking("b1", ["d1", "d2", "b2"])], ["b"], GALLERY, [{"b1"}])
    assert result.per_query["mAP"].tolist() == pytest.approx([1 / 3])


@pytest.mark.parametrize("labels", [["c"], ["unheard of"]])
def test_when_nothing_can_be_scored_it_is_an_error(labels: list[str]) -> None:
    with pytest.raises(RelookError, match="no query has a positive in the gallery"):
        by_labels([ranking("c1", ["a1"])], labels, GALLERY, [{"c1"}])
    with pytest.raises(RelookError, match="no query has a positive in the gallery"):
        by_labels([], [], GALLERY, [])


def test_one_label_and_one_exclusion_per_ranking() -> None:
    with pytest.raises(ValueError, match="zip"):
        by_labels([ranking("q", ["a1"])], ["a", "b"], GALLERY, [()])


@given(st.permutations(sorted(GALLERY)), st.sampled_from(["a", "b", "c"]))
def test_labels_equal_the_slow_reference(order: list[str], label: str) -> None:
    result, _ = by_labels([ranking("q", order)], [label], GALLERY, [()])
    relevant = [GALLERY[name] == label for name in order]
    assert result.per_query["mAP"][0] == pytest.approx(float(slow_average_precision(relevant, 0)))
    for k in (1, 5, 10):
        assert result.per_query[f"R@{k}"][0] == any(relevant[:k])
