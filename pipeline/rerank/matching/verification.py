"""Which matches of two images agree with one geometry: a homography, or a fundamental matrix.

Between the matcher and the score. The models are estimated by OpenCV's USAC with MAGSAC++ (Barath et al., CVPR 2020)
and local optimisation, or by PoseLib (`poselib_estimator.py`); the random numbers are seeded, so that the same matches
always have the same inliers.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.rerank.matching.poselib_estimator import estimate_with_poselib
from pipeline.types import FloatArray, Geometry, Keypoints, Matches, VerifiedMatches

# Matches that determine a model, and one more that confirms it.
_LEAST = {"homography": 5, "fundamental": 8}
# OpenCV's thresholds for degenerate samples are made for pixels: points are scaled to a picture of this size.
_SIDE = 1000.0
_ITERATIONS = 2000
_CONFIDENCE = 0.999
# A homography that shrinks or stretches an area by more than this, or mirrors it, joins points of a line.
_LARGEST_STRETCH = 400.0


def verify(
    query: Keypoints,
    image: Keypoints,
    matches: Matches,
    geometry: Geometry,
    tolerance: float,
    estimator: str = "opencv",
) -> VerifiedMatches:
    """Keep the matches that agree with one geometry.

    Args:
        query, image: the keypoints.
        matches: of the two.
        geometry: "homography" (planes, and distant things), "fundamental" (any rigid scene), or "none".
        tolerance: how far a point may lie from where the model has it, as a share of the longer side of the part of
            the image that was read.
        estimator: a key of `ESTIMATORS`.
    """
    left, right = matches.places(query, image)
    if geometry == "none":
        return VerifiedMatches(
            left, right, matches.scores, np.ones(len(matches), np.bool_), None, geometry, query.region
        )
    model, inliers = None, np.zeros(len(matches), np.bool_)
    if len(matches) >= _LEAST[geometry]:
        scales = _scale(query), _scale(image)
        order = np.argsort(-matches.scores, kind="stable")  # the sampler tries confident matches first
        points = left[order] * scales[0], right[order] * scales[1]
        found, mask = _estimate(*points, geometry, tolerance * _SIDE, ESTIMATORS[estimator])
        if found is not None and mask.sum() >= _LEAST[geometry]:
            inliers[order] = mask
            model = _in_pixels(found, *scales, geometry)
    return VerifiedMatches(left, right, matches.scores, inliers, model, geometry, query.region)


def _scale(points: Keypoints) -> np.float32:
    """The factor that makes the longer side of what was read `_SIDE` long."""
    x0, y0, x1, y1 = points.region
    return np.float32(_SIDE / max(x1 - x0, y1 - y0, 1.0))


def estimate_with_opencv(
    left: FloatArray, right: FloatArray, geometry: Geometry, threshold: float, iterations: int, confidence: float
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.bool_]]:
    """The model [3, 3] of points [k, 2] and which of them agree [k] with it; None where they determine none.

    Args:
        left, right: points in the order of their confidence.
        geometry: "homography" or "fundamental".
        threshold: how far a point may lie from where the model has it.
        iterations: samples, at most.
        confidence: that no better model would have been found, with which it stops earlier.
    """
    settings = cv2.UsacParams()
    settings.threshold = threshold
    settings.confidence = confidence
    settings.maxIterations = iterations
    settings.score = cv2.SCORE_METHOD_MAGSAC
    settings.sampler = cv2.SAMPLING_PROSAC
    settings.randomGeneratorState = 0
    find = cv2.findHomography if geometry == "homography" else cv2.findFundamentalMat
    try:
        model, mask = find(left, right, settings)
    except cv2.error:  # OpenCV 5 throws where the points are degenerate, such as all equal
        model, mask = None, None
    if model is None or mask is None:
        return None, np.zeros(len(left), np.bool_)
    return np.asarray(model, np.float64), np.asarray(mask).reshape(-1).astype(np.bool_)


Estimator = Callable[
    [FloatArray, FloatArray, Geometry, float, int, float],
    tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.bool_]],
]
ESTIMATORS: dict[str, Estimator] = {"opencv": estimate_with_opencv, "poselib": estimate_with_poselib}


def _estimate(
    left: FloatArray, right: FloatArray, geometry: Geometry, threshold: float, estimator: Estimator
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.bool_]]:
    """The model and its inliers; None where there is none, or none that a camera can have made."""
    found, inliers = estimator(left, right, geometry, threshold, _ITERATIONS, _CONFIDENCE)
    fits = found is not None and found.shape == (3, 3) and bool(np.isfinite(found).all()) and bool(found.any())
    if found is None or not fits or (geometry == "homography" and not _plausible(found, left[inliers])):
        return None, np.zeros(len(left), np.bool_)
    return found, inliers


def _plausible(model: npt.NDArray[np.float64], points: FloatArray) -> bool:
    """Whether a homography keeps orientation and stretches the area around each point within bounds."""
    depth = points @ model[2, :2] + model[2, 2]
    if not (np.all(depth > 0) or np.all(depth < 0)):
        return False
    areas = np.linalg.det(model) / depth**3  # the Jacobian's determinant of x -> Hx
    return bool(np.all(areas > 1 / _LARGEST_STRETCH) and np.all(areas < _LARGEST_STRETCH))


def _in_pixels(
    model: npt.NDArray[np.float64], query_scale: np.float32, image_scale: np.float32, geometry: Geometry
) -> npt.NDArray[np.float64]:
    """A model of scaled points as one of points in pixels."""
    before, after = np.diag([query_scale, query_scale, 1.0]), np.diag([image_scale, image_scale, 1.0])
    if geometry == "homography":
        found = np.linalg.inv(after) @ model @ before
        return np.asarray(found / found[2, 2])
    found = after @ model @ before
    return np.asarray(found / np.linalg.norm(found))
