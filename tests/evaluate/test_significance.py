"""Intervals and paired tests: against exact enumerations, and on data whose answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluate import Scores, confidence_intervals, paired_tests

tenths = st.lists(st.integers(-5, 5), min_size=1, max_size=9)


def scores(*values: float) -> Scores:
    return Scores({"mAP": np.array(values, dtype=np.float64)})


@given(tenths)
def test_few_queries_are_tested_exactly(differences: list[int]) -> None:
    """All signs are tried: p is twice the smaller share of sums as far out as the one that was found, at most 1."""
    found = paired_tests(scores(*[0.0] * len(differences)), scores(*(value / 10 for value in differences)))["mAP"]
    sums = [
        sum(sign * value for sign, value in zip(signs, differences, strict=True))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    above = np.mean([value >= sum(differences) for value in sums])
    below = np.mean([value <= sum(differences) for value in sums])
    assert found.p_value == pytest.approx(min(1.0, 2 * min(above, below)))
    assert (found.wins, found.losses) == (sum(d > 0 for d in differences), sum(d < 0 for d in differences))
    assert found.ties == differences.count(0)
    assert found.difference == pytest.approx(sum(differences) / 10 / len(differences))


def test_a_clear_gain_is_told_from_chance() -> None:
    rng = np.random.default_rng(0)
    before = rng.random(200) / 2
    better = paired_tests(scores(*before), scores(*before + rng.normal(0.05, 0.1, 200)))["mAP"]
    same = paired_tests(scores(*before), scores(*before + rng.normal(0, 0.1, 200)))["mAP"]
    assert better.p_value < 0.01
    assert better.interval[0] > 0
    assert same.p_value > 0.05
    assert same.interval[0] < 0 < same.interval[1]


def test_p_values_are_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(1)
    values = [
        paired_tests(scores(*[0.0] * 20), scores(*rng.normal(0, 0.1, 20)), resamples=400)["mAP"].p_value
        for _ in range(200)
    ]
    assert 0.02 <= np.mean(np.array(values) < 0.1) <= 0.2


def test_queries_without_a_score_are_no_data() -> None:
    found = paired_tests(scores(0.1, np.nan, 0.3), scores(0.2, np.nan, 0.4))["mAP"]
    assert (found.wins, found.losses, found.ties) == (2, 0, 0)
    assert found.difference == pytest.approx(0.1)
    assert confidence_intervals(scores(0.5, np.nan))["mAP"] == (0.5, 0.5)


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    """Of 200 samples whose true mean is 0.5 some 190 intervals of 95 % hold it."""
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        low, high = confidence_intervals(scores(*rng.beta(2, 2, 50)), resamples=500)["mAP"]
        held += low <= 0.5 <= high
    assert 178 <= held <= 199


def test_the_interval_is_that_of_the_normal_law_and_is_the_same_in_every_run() -> None:
    values = np.random.default_rng(3).random(400)
    found = confidence_intervals(scores(*values))["mAP"]
    error = values.std(ddof=1) / 20
    assert found == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.15 * error)
    assert confidence_intervals(scores(*values))["mAP"] == found
    assert confidence_intervals(scores(*values), seed=1)["mAP"] != found
    assert np.diff(confidence_intervals(scores(*values), level=0.5)["mAP"]) < np.diff(found)


def test_the_runs_must_have_the_same_queries() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        paired_tests(scores(0.1, 0.2), scores(0.1, 0.2, 0.3))
