"""Calibration: a monotone map from a score to the probability that the candidate is relevant.

Between a score and its fusion with another one: probabilities have one scale, scores do not. Fitted by `calibrate` on
labelled pairs, by isotonic regression where there are many, otherwise by Platt's two parameters (Platt, "Probabilistic
Outputs for Support Vector Machines", 1999, section 2, with his smoothed targets). Either is constant somewhere, so a
small share of the probability is a function that rises everywhere: scores that differ stay in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

# Relevant pairs, and others, from which the shape of the curve is fitted as well.
ISOTONIC_FROM = 1000
# Steps of an isotonic curve that are kept.
_MOST_KNOTS = 48
# Share of the function that rises everywhere: scores of unit range that differ by 1e-4 differ after it in float32.
_RISING = 0.02
_STEPS = 100


@dataclass(frozen=True)
class Calibration:
    """A strictly rising map to [0, 1].

    Attributes:
        kind: "isotonic": linear between knots, constant beyond them; "platt": 1 / (1 + exp(-(slope x + intercept))).
        x: isotonic: where the knots are, rising; platt: the slope, at least 0, and the intercept.
        y: isotonic: the probability at each knot, never falling; platt: empty.
        centre, scale: the middle of the fitted scores, and their range: where the part that rises everywhere rises.
    """

    kind: Literal["isotonic", "platt"]
    x: tuple[float, ...]
    y: tuple[float, ...]
    centre: float
    scale: float

    def __post_init__(self) -> None:
        numbers = np.array([*self.x, *self.y, self.centre, self.scale], np.float64)
        if not np.isfinite(numbers).all() or self.scale <= 0:
            raise ValueError("a calibration has finite numbers and a positive scale")
        if self.kind == "platt" and (len(self.x) != 2 or self.y or self.x[0] < 0):
            raise ValueError("platt has a slope, at least 0, and an intercept")
        if self.kind == "isotonic" and (not self.x or len(self.x) != len(self.y) or not _rises(self.x, self.y)):
            raise ValueError("isotonic has as many x, rising, as y, never falling, in [0, 1]")

    def __call__(self, scores: npt.ArrayLike) -> Values:
        """Probabilities of scores of any shape; NaN stays NaN."""
        values = np.asarray(scores, np.float64)
        platt = self.kind == "platt"
        curve = _logistic(self.x[0] * values + self.x[1]) if platt else np.interp(values, self.x, self.y)
        offset = (values - self.centre) / self.scale
        rising = 0.5 + 0.5 * offset / (1 + np.abs(offset))
        return np.asarray((1 - _RISING) * curve + _RISING * rising, np.float64)

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes an equal one."""
        return {
            "kind": self.kind,
            "x": list(self.x),
            "y": list(self.y),
            "centre": self.centre,
            "scale": self.scale,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The calibration of a document. Raises ValueError, KeyError or TypeError where it is none."""
        kind = values["kind"]
        if kind not in ("isotonic", "platt"):
            raise ValueError(f"kind of calibration {kind!r}")
        x, y = (tuple(float(value) for value in values[key]) for key in ("x", "y"))
        return cls(kind, x, y, float(values["centre"]), float(values["scale"]))


def fit_calibration(
    scores: npt.ArrayLike, relevant: npt.ArrayLike, kind: Literal["isotonic", "platt"] | None = None
) -> Calibration:
    """Fit a calibration.

    Args:
        scores: [N] of candidates, finite.
        relevant: [N] whether each shows what its query shows.
        kind: None: isotonic where there are `ISOTONIC_FROM` relevant pairs and as many others, otherwise platt.

    Raises:
        ValueError: there is no pair, or their scores and relevance are not equally many.
    """
    x, target = np.asarray(scores, np.float64), np.asarray(relevant, np.bool_)
    if x.ndim != 1 or x.shape != target.shape or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"a calibration is fitted on finite scores [N] and as many labels, not {x.shape}")
    hits = int(target.sum())
    misses = len(target) - hits
    # Platt's targets: nothing is certain after finitely many pairs.
    smoothed = np.where(target, (hits + 1) / (hits + 2), 1 / (misses + 2))
    low, high = float(x.min()), float(x.max())
    centre, scale = (low + high) / 2, max(high - low, 1e-6)
    if kind is None:
        kind = "isotonic" if min(hits, misses) >= ISOTONIC_FROM else "platt"
    fit = _fit_isotonic if kind == "isotonic" else _fit_platt
    knots, values = fit(x, smoothed)
    return Calibration(kind, knots, values, centre, scale)


def _fit_isotonic(x: Values, target: Values) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """One knot per block of the regression, at the mean score of the block."""
    from scipy.optimize import isotonic_regression

    places, which = np.unique(x, return_inverse=True)  # equal scores have one probability
    counts = np.bincount(which).astype(np.float64)
    found = isotonic_regression(np.bincount(which, target) / counts, weights=counts)
    starts = found.blocks[:-1].astype(np.int64)
    knots = np.add.reduceat(places * counts, starts) / np.add.reduceat(counts, starts)
    levels = np.clip(found.x[starts], 0.0, 1.0)
    kept = np.unique(np.linspace(0, len(knots) - 1, min(len(knots), _MOST_KNOTS)).round().astype(np.int64))
    kept = kept[np.concatenate([[True], np.diff(knots[kept]) > 0])]
    return tuple(knots[kept].tolist()), tuple(levels[kept].tolist())


def _fit_platt(x: Values, target: Values) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The slope and intercept of the largest likelihood, by Newton's method on standardised scores."""
    mean, spread = float(x.mean()), max(float(x.std()), 1e-9)
    design = np.stack([(x - mean) / spread, np.ones_like(x)], axis=1)
    found = np.array([0.0, float(np.log(target.mean() / (1 - target.mean())))])
    ridge = np.diag([1e-3, 1e-9])  # finite also where a threshold separates the pairs
    for _ in range(_STEPS):
        probability = _logistic(design @ found)
        gradient = design.T @ (target - probability) - ridge @ found
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design + ridge
        step = np.linalg.solve(curvature, gradient)
        found = found + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    if found[0] < 0:  # such scores say nothing that may be used: a calibration does not turn an order round
        found = np.array([0.0, float(np.log(target.mean() / (1 - target.mean())))])
    slope = float(found[0]) / spread
    return (slope, float(found[1]) - slope * mean), ()


def _logistic(values: Values) -> Values:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -500, 500))), np.float64)


def _rises(x: tuple[float, ...], y: tuple[float, ...]) -> bool:
    steps = np.diff(np.array(x)), np.diff(np.array(y))
    return bool((steps[0] > 0).all() and (steps[1] >= 0).all() and y[0] >= 0 and y[-1] <= 1)
