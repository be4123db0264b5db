"""The estimator `poselib`: LO-RANSAC of PoseLib (Larsson and contributors, BSD-3-Clause), an optional package.

Used by `verification.py` in the place of OpenCV. Samples come in the order of the matches (PROSAC), hypotheses are
scored by truncated squared errors and refined by non-linear least squares.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import RelookError
from pipeline.types import FloatArray, Geometry

_SETTINGS = {"min_iterations": 100, "progressive_sampling": True, "seed": 0}


def require_poselib() -> None:
    """Raises RelookError where the package is not installed."""
    if find_spec("poselib") is None:
        raise RelookError(
            "rerank.matching.estimator = poselib needs the package poselib: pip install 'relook[poselib]', or set it "
            "to opencv"
        )


def estimate_with_poselib(
    left: FloatArray, right: FloatArray, geometry: Geometry, threshold: float, iterations: int, confidence: float
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.bool_]]:
    """See `verification.estimate_with_opencv`. The threshold is of the Sampson, or of the transfer error."""
    poselib: Any = import_module("poselib")
    errors = "max_reproj_error" if geometry == "homography" else "max_epipolar_error"
    options = {**_SETTINGS, errors: threshold, "max_iterations": iterations, "success_prob": confidence}
    find = poselib.estimate_homography if geometry == "homography" else poselib.estimate_fundamental
    model, found = find(left.astype(np.float64), right.astype(np.float64), options, {})
    return np.asarray(model, np.float64), np.asarray(found["inliers"], np.bool_)
