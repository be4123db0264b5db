"""Calibrations: monotone, within [0, 1], in plain values; no order changes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.rerank.calibration import ISOTONIC_FROM, Calibration, fit_calibration

pairs = st.lists(st.tuples(st.floats(-3, 3, width=32), st.booleans()), min_size=1, max_size=300)
kinds = st.sampled_from(["isotonic", "platt"])


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels, and the probabilities that the labels were drawn with."""
    rng = np.random.default_rng(seed)
    scores = rng.random(count)
    probability = 1 / (1 + np.exp(-(14 * scores - 9)))
    return scores, rng.random(count) < probability, probability


@given(pairs=pairs, kind=kinds, others=st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=40))
@settings(max_examples=150, deadline=None)
def test_it_rises_strictly_within_0_and_1_and_keeps_every_order(pairs: Any, kind: Any, others: Any) -> None:
    made = fit_calibration([score for score, _ in pairs], [label for _, label in pairs], kind)
    asked = np.unique(np.array([*others, *(score for score, _ in pairs)], np.float64))
    values = made(asked)
    assert ((values >= 0) & (values <= 1)).all()
    apart = np.diff(asked) > 1e-6 * made.scale
    assert (np.diff(values)[apart] > 0).all()
    assert (np.diff(values) >= 0).all()


@given(pairs=pairs, kind=kinds)
@settings(max_examples=80, deadline=None)
def test_a_document_makes_an_equal_one(pairs: Any, kind: Any) -> None:
    made = fit_calibration([score for score, _ in pairs], [label for _, label in pairs], kind)
    again = Calibration.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    asked = np.linspace(-5, 5, 50)
    np.testing.assert_array_equal(again(asked), made(asked))


@pytest.mark.parametrize(("count", "kind", "within"), [(6000, "isotonic", 0.05), (300, "platt", 0.12)])
def test_it_finds_the_probability_and_takes_platt_where_pairs_are_few(count: int, kind: str, within: float) -> None:
    scores, labels, probability = drawn(count)
    assert (min(labels.sum(), (~labels).sum()) >= ISOTONIC_FROM) == (kind == "isotonic")
    made = fit_calibration(scores, labels)
    assert made.kind == kind
    assert np.abs(made(scores) - probability).mean() < within
    assert len(made.x) <= 48


def test_scores_that_differ_little_differ_after_it_in_float32() -> None:
    """Also where the curve is flat: at its ends, and between a lowest score and 0 inliers."""
    scores, labels, _ = drawn(6000)
    made = fit_calibration(scores, labels)
    near = np.arange(0.0, 1.0, 2e-4)
    assert (np.diff(made(near).astype(np.float32)) > 0).all()


@pytest.mark.parametrize("labels", [[True] * 5, [False] * 5])
@pytest.mark.parametrize("kind", ["isotonic", "platt"])
def test_one_class_and_equal_scores_are_fitted(labels: list[bool], kind: Any) -> None:
    for scores in ([0.1, 0.2, 0.3, 0.4, 0.5], [0.5] * 5):
        values = fit_calibration(scores, labels, kind)([0.0, 0.5, 1.0])
        assert np.isfinite(values).all()
        assert ((values > 0.6) if labels[0] else (values < 0.4)).all()


def test_scores_that_point_the_wrong_way_lose_their_say_and_not_their_order() -> None:
    scores = np.linspace(0, 1, 100)
    for kind in ("isotonic", "platt"):
        values = fit_calibration(scores, scores < 0.5, kind)(scores)  # type: ignore[arg-type]
        assert (np.diff(values) > 0).all()
        assert values[-1] - values[0] < 0.05


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "spline"},
        {"x": [0.2, 0.1]},
        {"y": [0.5]},
        {"y": [0.6, 0.5]},
        {"y": [0.5, 1.5]},
        {"scale": 0},
        {"centre": float("nan")},
        {"kind": "platt", "x": [-1.0, 0.0], "y": []},
        {"kind": "platt", "x": [1.0], "y": []},
    ],
)
def test_a_wrong_document_is_refused(change: dict[str, Any]) -> None:
    right = {"kind": "isotonic", "x": [0.1, 0.2], "y": [0.5, 0.6], "centre": 0.1, "scale": 1.0}
    assert Calibration.from_json(right).kind == "isotonic"
    with pytest.raises((ValueError, KeyError, TypeError)):
        Calibration.from_json({**right, **change})


@pytest.mark.parametrize(("scores", "labels"), [([], []), ([0.1], [True, False]), ([float("nan")], [True])])
def test_pairs_that_cannot_be_fitted_are_refused(scores: list[float], labels: list[bool]) -> None:
    with pytest.raises(ValueError, match="a calibration is fitted on"):
        fit_calibration(scores, labels)
