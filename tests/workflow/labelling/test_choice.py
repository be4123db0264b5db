"""The order of questions: what is worth a question, and what it brings on a collection of known labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.train.mining.evidence import Evidence
from pipeline.workflow.labelling.answered_groups import group_answers
from pipeline.workflow.labelling.choice import choose_pairs
from pipeline.workflow.training.mining import MinedPairs

LEAST = 20.0


def mined(
    pairs: list[tuple[int, int, float | None]], count: int, answers: dict[tuple[int, int], str] | None = None
) -> MinedPairs:
    """Pairs of (row, row, support); None: not compared. Cosines fall from the first pair on."""
    rows = np.array([pair[:2] for pair in pairs], np.int64)
    evidence = [Evidence(0, 0.0, 0.0) if s is None else Evidence(int(s), s, 0.2 if s else 0.0) for *_, s in pairs]
    records: list[Any] = [None] * count
    similarity = np.linspace(0.9, 0.5, len(pairs)).astype(np.float32)
    said = np.array([(answers or {}).get(pair[:2], "") for pair in pairs], "<U6")
    compared = np.array([s is not None for *_, s in pairs])
    return MinedPairs(records, np.zeros((count, 2), np.float32), rows, evidence, similarity, {}, 0, said, compared)


def test_pairs_that_were_not_compared_go_by_similarity_and_by_the_size_of_groups() -> None:
    pairs = [(0, 1, None), (2, 3, None), (1, 2, None), (0, 4, None)]
    assert choose_pairs(mined(pairs, 5), LEAST).order.tolist() == [0, 1, 2, 3]
    # A yes makes a group of two, and what would join it to others is worth more than the nearest pair.
    assert choose_pairs(mined(pairs, 5, {(0, 1): "yes"}), LEAST).order.tolist() == [2, 3, 1]


def test_what_follows_from_answers_is_not_shown() -> None:
    pairs = [(0, 1, None), (1, 2, None), (0, 2, None), (2, 3, None), (0, 3, None), (3, 4, None)]
    found = choose_pairs(mined(pairs, 5, {(0, 1): "yes", (1, 2): "yes", (2, 3): "no", (3, 4): "unsure"}), LEAST)
    assert not len(found.order)
    assert found.number.tolist() == [0, 0, 0, -1, -1]


def test_a_doubtful_tie_between_large_groups_is_worth_most() -> None:
    sure = [(0, 1, 90.0), (1, 2, 90.0), (3, 4, 90.0), (4, 5, 90.0)]
    pairs = [*sure, (2, 3, 15.0), (6, 7, 15.0), (0, 6, 1.0)]
    found = choose_pairs(mined(pairs, 8), LEAST)
    assert found.number.tolist() == [0, 0, 0, 1, 1, 1, -1, -1]
    assert found.order[0] == 4
    assert found.worth[4] == pytest.approx(9 * found.worth[5], rel=0.1)
    # Inside of a group the weak tie that holds two halves together is asked about before the sure ones.
    joined = choose_pairs(mined([*sure, (2, 3, 22.0)], 6), LEAST)
    assert joined.number.tolist() == [0] * 6
    assert joined.order[0] == 4
    assert joined.worth[4] == pytest.approx((1 - 22.7 / 42.7) * 9, rel=0.1)


def test_answers_bring_true_pairs_sooner_than_in_random_order() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 6)
    pairs: list[tuple[int, int, float | None]] = []
    for left in range(len(labels)):
        for right in rng.permutation(np.arange(left + 1, len(labels)))[:12].tolist():
            same = labels[left] == labels[right]
            if same or rng.random() < 0.3:
                pairs.append((left, right, float(rng.gamma(2, 9 if same else 2.5))))
    start = mined(pairs, len(labels))
    chosen = after_answers(start, labels, None)
    random = np.mean([after_answers(start, labels, np.random.default_rng(seed)) for seed in range(3)], axis=0)
    assert (chosen[1:] > random[1:]).all()
    assert chosen[-1] >= 1.2 * random[-1]


def after_answers(pairs: MinedPairs, labels: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """True pairs less wrong ones inside of groups after 0, 20, 40 and 60 answers by the labels."""
    found = []
    for clicks in range(61):
        choice = choose_pairs(pairs, LEAST)
        if clicks % 20 == 0:
            found.append(right_less_wrong(choice.number, labels))
        left = np.flatnonzero(pairs.answers == "")
        number = (
            choice.order[0] if rng is None and len(choice.order) else (rng or np.random.default_rng(0)).choice(left)
        )
        first, second = pairs.pairs[number]
        answers = pairs.answers.copy()
        answers[number] = "yes" if labels[first] == labels[second] else "no"
        pairs = replace(pairs, answers=answers)
    return np.array(found, float)


def right_less_wrong(number: np.ndarray, labels: np.ndarray) -> int:
    left, right = np.triu_indices(len(labels), 1)
    inside = (number[left] == number[right]) & (number[left] >= 0)
    return int(np.where(labels[left] == labels[right], 1, -1)[inside].sum())


def test_groups_of_answers_and_their_contradictions() -> None:
    place_of = {name: row for row, name in enumerate("abcdef")} | {"copy of a": 0}
    said = {("a", "b"): "yes", ("b", "c"): "yes", ("a", "c"): "no", ("d", "e"): "no", ("e", "f"): "unsure"}
    found = group_answers(said, place_of, 6)
    # One yes against one no between {a, b} and c: they stay apart, and the yes is reported.
    assert found.number.tolist() == [0, 0, -1, -1, -1, -1]
    assert found.contradictions == [("b", "c", "yes")]
    more = group_answers({**said, ("a", "copy of a"): "no", ("gone", "b"): "yes"}, place_of, 6)
    assert more.contradictions == [("b", "c", "yes"), ("a", "copy of a", "no")]
