"""Training of LoCoRe: its lists, its closed-form start, and that it learns the sample photos by heart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from overfitting import overfit

from pipeline.train import MiningError
from pipeline.train.data.candidate_lists import CandidateLists

QUICK = ["epochs=1", "triplets=400", "batch_size=8", "learning_rate=3e-3", "average=0.9", "weight_decay=0"]
SMALL = ["locore.layers=1", "locore.locals=8", "locore.candidates=20", "locore.feedforward=64"]


@given(
    labels=st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=2, max_size=20),
    size=st.integers(1, 12),
    positives=st.floats(0.05, 0.95),
    count=st.integers(1, 30),
    seed=st.integers(0, 9),
)
@settings(max_examples=60)
def test_every_list_has_a_positive_and_its_anchor_is_not_in_it(
    labels: list[str], size: int, positives: float, count: int, seed: int
) -> None:
    every = np.arange(len(labels))
    candidates = [every[every != row] for row in every]
    useful = [row for row in every if labels[row] and labels.count(labels[row]) > 1 and len({*labels}) > 1]
    if not useful:
        with pytest.raises(MiningError, match="no lists"):
            CandidateLists(labels, candidates, size, positives)
        return
    lists = CandidateLists(labels, candidates, size, positives)
    rows = lists.epoch(count, np.random.default_rng(seed))
    assert rows.shape == (count, 1 + size)
    assert lists.anchors.tolist() == useful
    times = np.bincount(rows[:, 0], minlength=len(labels))[useful]
    assert times.max() - times.min() <= 1
    for anchor, *others in rows.tolist():
        assert anchor not in others
        assert any(labels[row] == labels[anchor] for row in others)
        assert len({*others}) == min(size, len(every) - 1)
    np.testing.assert_array_equal(rows, lists.epoch(count, np.random.default_rng(seed)))


def test_the_order_of_a_list_says_nothing() -> None:
    labels = ["a"] * 6 + ["b"] * 6
    lists = CandidateLists(labels, [np.delete(np.arange(12), row) for row in range(12)], 10, 0.5)
    rows = lists.epoch(600, np.random.default_rng(0))
    same = (rows[:, 1:] < 6) == (rows[:, :1] < 6)
    assert np.abs(same.mean(axis=0) - 0.5).max() < 0.08


@pytest.mark.slow
def test_it_learns_eight_things_by_heart() -> None:
    overfit("locore", [*QUICK, *SMALL], ["locals.count=8"])
