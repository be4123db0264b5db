"""Verification finds the geometry that matches agree with, and never fails on points that have none."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RelookError, UsageError
from pipeline.rerank import load_reranker
from pipeline.rerank.matching import poselib_estimator
from pipeline.rerank.matching.verification import verify
from pipeline.types import Geometry, Keypoints, Matches, VerifiedMatches

GEOMETRIES: tuple[Geometry, ...] = ("homography", "fundamental", "none")
both_estimators = pytest.mark.parametrize(
    "estimator",
    [
        "opencv",
        pytest.param("poselib", marks=pytest.mark.skipif(find_spec("poselib") is None, reason="poselib is optional")),
    ],
)


def keypoints(xy: np.ndarray, region: tuple[float, float, float, float] = (0, 0, 640, 480)) -> Keypoints:
    count = len(xy)
    zeros = np.zeros(count, np.float32)
    descriptors = np.zeros((count, 8), np.float32)
    return Keypoints(np.asarray(xy, np.float32).reshape(-1, 2), descriptors, zeros, zeros, zeros, region)


def pairwise(count: int) -> Matches:
    rows = np.arange(count, dtype=np.int64)
    return Matches(np.stack([rows, rows], axis=1), np.linspace(1, 0.2, count, dtype=np.float32))


def moved(xy: np.ndarray, model: np.ndarray) -> np.ndarray:
    points = np.concatenate([xy, np.ones((len(xy), 1))], axis=1) @ model.T
    return points[:, :2] / points[:, 2:]


MODEL = np.array([[0.9, -0.2, 40.0], [0.25, 1.1, -12.0], [1e-4, -5e-5, 1.0]])


def scene(count: int, wrong: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points of a plane in two images, the last `wrong` of them anywhere."""
    random = np.random.default_rng(seed)
    left = random.uniform((0, 0), (640, 480), (count, 2))
    right = moved(left, MODEL)
    right[count - wrong :] = random.uniform((0, 0), (640, 480), (wrong, 2))
    return left, right


@both_estimators
@pytest.mark.parametrize("factor", [1.0, 0.05, 30.0])
def test_a_homography_is_found_in_pixels_of_the_originals(factor: float, estimator: str) -> None:
    left, right = scene(60, 20)
    region = (0.0, 0.0, 640.0, 480.0)
    larger = tuple(value * factor for value in region)
    images = keypoints(left, region), keypoints(right * factor, larger)
    found = verify(*images, pairwise(60), "homography", 0.005, estimator)
    assert found.inliers[:40].all()
    assert found.inliers.sum() <= 43
    assert found.model is not None
    np.testing.assert_allclose(moved(left[:40], found.model), right[:40] * factor, atol=0.5 * factor)
    outline = found.outline()
    assert outline is not None
    corners = np.array([[0, 0], [640, 0], [640, 480], [0, 480]])
    np.testing.assert_allclose(outline, moved(corners, MODEL) * factor, atol=2 * factor)


def test_the_outline_is_that_of_the_part_that_was_read() -> None:
    left, right = scene(60, 0)
    found = verify(keypoints(left, (100, 50, 300, 250)), keypoints(right), pairwise(60), "homography", 0.005)
    outline = found.outline()
    assert outline is not None
    np.testing.assert_allclose(outline[0], moved(np.array([[100.0, 50.0]]), MODEL)[0], atol=1)


@both_estimators
def test_a_fundamental_matrix_is_found_for_points_at_many_depths(estimator: str) -> None:
    random = np.random.default_rng(1)
    points = random.uniform((-2, -1.5, 4), (2, 1.5, 9), (80, 3))
    camera = np.array([[500, 0, 320], [0, 500, 240], [0, 0, 1]])
    turn, _ = np.linalg.qr(np.eye(3) + 0.05 * random.normal(size=(3, 3)))
    turn *= np.sign(np.diag(turn))
    left = moved(points[:, :2] / points[:, 2:], camera)
    seen = points @ turn.T + (0.6, 0.05, 0.1)
    right = moved(seen[:, :2] / seen[:, 2:], camera)
    right[60:] = random.uniform((0, 0), (640, 480), (20, 2))
    found = verify(keypoints(left), keypoints(right), pairwise(80), "fundamental", 0.003, estimator)
    assert found.inliers[:60].mean() > 0.95
    assert found.inliers[60:].mean() < 0.35  # a point near its epipolar line by chance agrees
    assert found.model is not None
    homogeneous = [np.concatenate([xy[:60], np.ones((60, 1))], axis=1) for xy in (left, right)]
    lines = homogeneous[0] @ found.model.T
    distances = np.abs((homogeneous[1] * lines).sum(1)) / np.linalg.norm(lines[:, :2], axis=1)
    assert np.median(distances) < 0.5
    assert found.outline() is None


def test_without_verification_every_match_counts() -> None:
    left, right = scene(3, 3)
    found = verify(keypoints(left), keypoints(right), pairwise(3), "none", 0.01)
    assert (found.inlier_count, found.model) == (3, None)


@both_estimators
@pytest.mark.parametrize("geometry", ["homography", "fundamental"])
@pytest.mark.parametrize(
    "points",
    [
        np.zeros((0, 2)),
        np.ones((1, 2)),
        np.ones((40, 2)) * 7,  # one place
        np.stack([np.arange(40.0), 2 * np.arange(40.0)], axis=1),  # one line
    ],
    ids=["none", "one", "one place", "one line"],
)
def test_degenerate_points_are_zero_inliers_or_a_finite_model(
    geometry: Geometry, points: np.ndarray, estimator: str
) -> None:
    images = keypoints(points), keypoints(points[::-1].copy())
    found = verify(*images, pairwise(len(points)), geometry, 0.01, estimator)
    assert len(found.inliers) == len(points)
    assert found.model is None or np.isfinite(found.model).all()
    if len(np.unique(points, axis=0)) < 4:
        assert found.inlier_count == 0


@both_estimators
def test_a_mirrored_photo_has_no_homography(estimator: str) -> None:
    """Nothing that a camera sees of a plane from its front is mirrored; docs/matching.md says so."""
    left, _ = scene(60, 0)
    found = verify(keypoints(left), keypoints(left * (-1, 1) + (640, 0)), pairwise(60), "homography", 0.005, estimator)
    assert (found.inlier_count, found.model) == (0, None)


@both_estimators
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(0, 2**31 - 1), st.sampled_from(GEOMETRIES), st.sampled_from([0.001, 0.01, 0.1]))
def test_any_points_give_a_defined_result(
    estimator: str, count: int, seed: int, geometry: Geometry, tolerance: float
) -> None:
    random = np.random.default_rng(seed)
    left, right = (random.integers(0, 40, (count, 2)).astype(np.float32) for _ in range(2))
    once, again = (_found(left, right, geometry, tolerance, estimator) for _ in range(2))
    assert np.array_equal(once.inliers, again.inliers)  # random numbers are seeded
    assert once.model is None or np.isfinite(once.model).all()
    assert once.to_json()["inliers"] == once.inlier_count <= count


def _found(
    left: np.ndarray, right: np.ndarray, geometry: Geometry, tolerance: float, estimator: str
) -> VerifiedMatches:
    return verify(keypoints(left), keypoints(right), pairwise(len(left)), geometry, tolerance, estimator)


def test_without_the_package_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poselib_estimator, "find_spec", lambda name: None)
    with pytest.raises(RelookError, match=r"pip install 'relook\[poselib\]'"):
        load_reranker("matching", matcher="mutual", estimator="poselib")
    with pytest.raises(UsageError, match="estimator"):
        load_reranker("matching", matcher="mutual", estimator="magsac")
