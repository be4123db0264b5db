"""The published protocols against slow walks down the list, cases worked out by hand, and what must not matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RelookError, UsageError
from pipeline.evaluate import (
    Guess,
    RevisitedTruth,
    Scores,
    ames_order,
    by_products,
    by_revisited,
    cvnet_order,
    landmark_retrieval,
    nearest_neighbours,
    neighbours_within,
    paired_difference,
    places_to_score,
    recognition_gap,
    recognition_top1,
    reranked_neighbours,
    rrt_order,
    trapezoid_average_precision,
)

GRADES = ("easy", "hard", "junk", "negative")
POSITIVE = {"E": {"easy"}, "M": {"easy", "hard"}, "H": {"hard"}}
IGNORED = {"E": {"junk", "hard"}, "M": {"junk"}, "H": {"junk", "easy"}}

setups = st.sampled_from("EMH")
# A query of the benchmark: for each place of its ranking the grade of what stands there.
graded = st.lists(st.sampled_from(GRADES), min_size=1, max_size=40)
seeds = st.integers(0, 2**32 - 1)


def query(grades: Sequence[str], seed: int = 0) -> tuple[np.ndarray, RevisitedTruth]:
    """A ranking of as many rows, drawn at random, and the truth that gives its places these grades."""
    ranking = np.random.default_rng(seed).permutation(len(grades))
    return ranking, RevisitedTruth(*(ranking[[grade == name for name in grades]] for grade in GRADES[:3]))


def slow_figures(grades: Sequence[str], setup: str, positives: int, cutoffs: Sequence[int]) -> list[float]:
    """AP and precisions, by walking down the list with a counter."""
    place, met, last, area = 0, 0, 0, Fraction(0)
    met_by_place = [0]
    for grade in grades:
        if grade in IGNORED[setup]:
            continue
        before = Fraction(met, place) if place else Fraction(1)
        place += 1
        if grade in POSITIVE[setup]:
            met, last = met + 1, place
            area += (before + Fraction(met, place)) / 2
        met_by_place.append(met)
    depths = [min(k, last) for k in cutoffs]
    return [float(area / positives), *(met_by_place[depth] / depth if depth else 0.0 for depth in depths)]


# --- Revisited Oxford and Paris ---------------------------------------------------------------------------------------


@given(graded, setups, seeds, st.integers(0, 45))
def test_revisited_equals_the_slow_walk(grades: list[str], setup: str, seed: int, cut: int) -> None:
    ranking, truth = query(grades, seed)
    positives = sum(grade in POSITIVE[setup] for grade in grades)
    if not positives:
        with pytest.raises(RelookError, match=f"no query has a positive in setup {setup}"):
            by_revisited([ranking], [truth], setup)
        return
    for shown in (len(grades), cut):
        found = by_revisited([ranking[:shown]], [truth], setup, (1, 3, 10))
        assert list(found.per_query) == ["mAP", "mP@1", "mP@3", "mP@10"]
        wanted = slow_figures(grades[:shown], setup, positives, (1, 3, 10))
        assert list(found.means().values()) == pytest.approx(wanted, abs=1e-12)
        assert all(0 <= value <= 1 for value in found.means().values())


@given(graded, setups, st.randoms(use_true_random=False))
def test_where_ignored_rows_stand_does_not_matter(grades: list[str], setup: str, random: Random) -> None:
    grades = [*grades, *POSITIVE[setup]]
    kept = [grade for grade in grades if grade not in IGNORED[setup]]
    moved = list(kept)
    for grade in grades:
        if grade in IGNORED[setup]:
            moved.insert(random.randint(0, len(moved)), grade)
    found = [by_revisited(*([part] for part in query(order)), setup).means() for order in (grades, kept, moved)]
    assert found[0] == found[1] == found[2]


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9), setups)
def test_a_perfect_ranking_scores_one(positives: int, junk: int, negatives: int, setup: str) -> None:
    grades = ["junk"] * junk + sorted(POSITIVE[setup]) * positives + ["negative"] * negatives
    assert set(by_revisited(*([part] for part in query(grades)), setup).means().values()) == {1.0}


@pytest.mark.parametrize(
    ("places", "positives", "wanted"),
    [
        ([0], 1, 1.0),
        ([1], 1, 1 / 4),
        ([1, 2], 2, 5 / 12),
        ([0, 2], 4, (1 + (1 / 2 + 2 / 3) / 2) / 4),
        ([], 3, 0.0),
    ],
)
def test_trapezoids_by_hand(places: list[int], positives: int, wanted: float) -> None:
    assert trapezoid_average_precision(places, positives) == pytest.approx(wanted, rel=1e-12)


def test_without_positives_there_are_no_trapezoids() -> None:
    with pytest.raises(ValueError, match="without positives"):
        trapezoid_average_precision([], 0)


def test_the_precision_is_measured_up_to_the_last_positive() -> None:
    """One positive at place 2: precision 1/2 at any k, where plain P@10 says 1/10."""
    found = by_revisited(*([part] for part in query(["negative", "easy"] + ["negative"] * 18)), "E").means()
    assert found == {"mAP": 0.25, "mP@1": 0.0, "mP@5": 0.5, "mP@10": 0.5}


def test_queries_without_positives_leave_the_mean() -> None:
    queries = [query(grades) for grades in (["easy", "negative"], ["hard", "negative"], ["negative", "easy"])]
    rankings, truths = zip(*queries, strict=True)
    scores = by_revisited(rankings, truths, "E")
    assert [math.isnan(value) for value in scores.per_query["mAP"]] == [False, True, False]
    assert scores.summary() == {"mAP": 62.5, "mP@1": 50.0, "mP@5": 75.0, "mP@10": 75.0}
    assert paired_difference(scores, scores)["mAP"] == 0.0


def test_rows_count_from_zero_and_setups_have_names() -> None:
    ranking, truth = query(["easy", "negative"])
    with pytest.raises(RelookError, match="has the row -1"):
        by_revisited([np.array([0, -1])], [truth], "E")
    with pytest.raises(UsageError, match="unknown setup 'e'"):
        by_revisited([ranking], [truth], "e")


def test_a_summary_leaves_out_what_cannot_be_scored() -> None:
    before, after = Scores({"mAP": np.array([0.5, np.nan, 1.0])}), Scores({"mAP": np.array([0.6, np.nan, 1.0])})
    assert before.means() == {"mAP": 0.75}
    assert before.summary() == {"mAP": 75.0}
    assert paired_difference(before, after) == {"mAP": 5.0, "mAP_se": 5.0}


# --- published re-rankings --------------------------------------------------------------------------------------------


@given(graded, seeds, st.integers(0, 45), st.floats(0, 1))
def test_cvnet_equals_the_slow_walk(grades: list[str], seed: int, top: int, mix: float) -> None:
    """One walk down the list that fills the three lists at once, as the paper's code does."""
    ranking, truth = query(grades, seed)
    similarity, scores = np.random.default_rng(seed).random((2, len(grades)))
    lists: dict[str, list[int]] = {"E": [], "M": [], "H": []}
    for place, grade in enumerate(grades):
        for setup in {"easy": "EM", "hard": "MH", "junk": "", "negative": "EMH"}[grade]:
            if len(lists[setup]) < top:
                lists[setup].append(place)
    for setup, places in lists.items():
        assert places_to_score(ranking, truth, setup, top).tolist() == places
        wanted = ranking.tolist()
        resorted = sorted(places, key=lambda place: -(similarity[place] + mix * scores[place]))
        for place, chosen in zip(places, resorted, strict=True):
            wanted[place] = ranking[chosen]
        assert cvnet_order(ranking, similarity, scores, truth, setup, top, mix).tolist() == wanted


@given(graded, seeds, st.integers(0, 45), setups)
def test_rrt_and_ames_equal_the_slow_walk(grades: list[str], seed: int, top: int, setup: str) -> None:
    ranking, truth = query(grades, seed)
    similarity, logits = np.random.default_rng(seed).standard_normal((2, len(grades)))
    places = [place for place, grade in enumerate(grades) if grade not in IGNORED[setup]]
    places += [place for place, grade in enumerate(grades) if grade in IGNORED[setup]]
    alone = sorted(places[:top], key=lambda place: -logits[place])
    assert rrt_order(ranking, logits, truth, setup, top).tolist() == ranking[alone + places[top:]].tolist()
    mixed = sorted(places[:top], key=lambda i: -(0.3 * similarity[i] + 0.7 / (1 + math.exp(-2 * logits[i]))))
    found = ames_order(ranking, similarity, logits, truth, setup, weight=0.3, temperature=2, top=top)
    assert found.tolist() == ranking[mixed + places[top:]].tolist()


@given(graded, seeds, setups)
def test_equal_scores_change_nothing_that_counts(grades: list[str], seed: int, setup: str) -> None:
    ranking, truth = query([*grades, *POSITIVE[setup]], seed)
    same = np.zeros(len(ranking))
    wanted = by_revisited([ranking], [truth], setup).means()
    assert cvnet_order(ranking, same, same, truth, setup, 10).tolist() == ranking.tolist()
    assert by_revisited([rrt_order(ranking, same, truth, setup, 10)], [truth], setup).means() == wanted
    assert by_revisited([ames_order(ranking, same, same, truth, setup, 0.5, 1.0)], [truth], setup).means() == wanted


def test_only_what_is_resorted_needs_a_score() -> None:
    ranking, truth = query(["negative", "junk", "easy", "hard", "negative"])
    similarity, scores = np.linspace(1, 0, 5), np.full(5, np.nan)
    places = places_to_score(ranking, truth, "M", 3)
    assert places.tolist() == [0, 2, 3]
    scores[places] = [0, 1, 2]
    assert rrt_order(ranking, scores, truth, "M", 3).tolist() == ranking[[3, 2, 0, 4, 1]].tolist()
    assert cvnet_order(ranking, similarity, scores, truth, "M", 3, 1).tolist() == ranking[[3, 1, 2, 0, 4]].tolist()
    assert (
        ames_order(ranking, similarity, scores, truth, "M", 1.0, 1.0, 3).tolist() == ranking[[0, 2, 3, 4, 1]].tolist()
    )
    with pytest.raises(RelookError, match="the candidate at place 4"):
        rrt_order(ranking, scores, truth, "M", 4)


# --- Google Landmarks v2 ----------------------------------------------------------------------------------------------

ids = st.sampled_from("abcdefghij")


@given(st.lists(ids, max_size=15), st.sets(ids, min_size=1), st.integers(1, 12))
def test_retrieval_equals_the_slow_walk(prediction: list[str], relevant: set[str], depth: int) -> None:
    seen: set[str] = set()
    correct, total, first, precisions = 0, 0.0, depth + 1, []
    for place in range(1, depth + 1):
        name = prediction[place - 1] if place <= len(prediction) else ""
        if name in relevant - seen:
            correct += 1
            total += correct / place
            first = min(first, place)
        seen.add(name)
        precisions.append(correct / place)
    found = landmark_retrieval({"q": prediction}, {"q": sorted(relevant)}, depth)
    assert found.map == pytest.approx(total / min(len(relevant), depth), abs=1e-12)
    assert found.mean_precisions.tolist() == pytest.approx(precisions, abs=1e-12)
    assert (found.mean_position, found.median_position) == (first, first)
    assert 0 <= found.map <= 1


def test_queries_without_a_prediction_count() -> None:
    found = landmark_retrieval({"b": ["y"]}, {"a": ["x"], "b": ["y", "z"]}, depth=1)
    assert found.average_precisions.tolist() == [0.0, 1.0]
    assert found.first_correct.tolist() == [2, 1]
    assert found.mean_precisions.tolist() == [0.5]


def test_what_cannot_be_scored_is_an_error() -> None:
    with pytest.raises(RelookError, match="'b' is not in the solution"):
        landmark_retrieval({"b": []}, {"a": ["x"]})
    with pytest.raises(RelookError, match="'a' has no relevant image"):
        landmark_retrieval({}, {"a": []})
    with pytest.raises(RelookError, match="the solution has no query"):
        landmark_retrieval({}, {})
    with pytest.raises(RelookError, match="'b' is not in the solution"):
        recognition_gap({"b": Guess(1, 0.5)}, {"a": [1]})
    with pytest.raises(RelookError, match="no image of the solution has a landmark"):
        recognition_top1({}, {"a": []})


def test_recognition_by_hand() -> None:
    """Order: d (wrong, of nothing), a and c tied (right, wrong), b (right); e has a landmark and no guess."""
    solution = {"a": [1], "b": [2, 3], "c": [4], "d": [], "e": [5]}
    guesses = {"c": Guess(5, 0.7), "a": Guess(1, 0.7), "b": Guess(3, 0.1), "d": Guess(1, 0.9)}
    assert recognition_gap(guesses, solution) == pytest.approx((1 / 2 + 2 / 4) / 4)
    assert recognition_gap(guesses, solution, ignore_others=True) == pytest.approx((1 + 2 / 3) / 4)
    assert recognition_top1(guesses, solution) == 2 / 4


# --- Stanford Online Products -----------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(seeds, st.integers(1, 30), st.booleans())
def test_the_search_is_exact(seed: int, k: int, cosine: bool) -> None:
    vectors = np.random.default_rng(seed).standard_normal((60, 5)).astype(np.float32)
    queries, gallery = vectors[:20], vectors[20:]
    rows, distances = nearest_neighbours(queries, gallery, k, cosine)
    if cosine:
        queries, gallery = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (queries, gallery))
    wanted = np.square(queries[:, None] - gallery).sum(axis=2, dtype=np.float64)
    np.testing.assert_allclose(distances, np.sort(wanted, axis=1)[:, :k], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(wanted, rows, axis=1), distances, rtol=1e-5, atol=1e-6)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    together = neighbours_within(vectors, 10)
    monkeypatch.setattr("pipeline.evaluate.products._BLOCK_VALUES", 400)
    for whole, parts in zip(together, neighbours_within(vectors, 10), strict=True):
        np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_of_two_equal_vectors_the_later_keeps_itself() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    rows, distances = neighbours_within(vectors, 1)
    assert rows.tolist() == [[1], [1], [0]]
    assert distances.tolist() == [[0], [0], [2]]


def test_recalls_by_hand() -> None:
    labels = np.array(["a", "b", "a", "c"])
    scores = by_products(np.array([[1, 2], [0, 2], [0, 3], [0, 1]]), labels, labels, [1, 2])
    assert {name: values.tolist() for name, values in scores.per_query.items()} == {
        "R@1": [0, 0, 1, 0],
        "R@2": [1, 0, 1, 0],
    }
    assert scores.summary() == {"R@1": 25.0, "R@2": 50.0}


def test_the_reranked_list_ends_where_it_was_resorted() -> None:
    neighbours, scores = np.array([[5, 6, 7, 8]]), np.array([[0.1, 0.3, 0.2, 9.0]], dtype=np.float32)
    assert reranked_neighbours(neighbours, scores, 3).tolist() == [[6, 7, 5]]
    assert reranked_neighbours(neighbours, scores).tolist() == [[8, 6, 7, 5]]


def test_more_neighbours_than_there_are() -> None:
    vectors = np.eye(3, dtype=np.float32)
    with pytest.raises(RelookError, match="k = 4 neighbours, but the gallery holds 3"):
        nearest_neighbours(vectors, vectors, 4)
    with pytest.raises(RelookError, match="recall at 3 needs as many neighbours, and there are 2"):
        by_products(np.zeros((1, 2), dtype=np.intp), np.zeros(1), np.zeros(3), [1, 3])
    assert nearest_neighbours(vectors[:0], vectors, 2)[0].shape == (0, 2)
