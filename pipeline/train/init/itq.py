"""Iterative quantisation: the rotation under which descriptors lose least when only their signs are kept.

Where the bits of a binarised AMES start from. Gong and Lazebnik, "Iterative Quantization: A Procrustean Approach to
Learning Binary Codes", CVPR 2011: PCA, then rotations that alternate between the nearest corners of a cube and the best
turn towards them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.types import FloatArray

Doubles = npt.NDArray[np.float64]

# The paper's.
_ITERATIONS = 50
# Descriptors that a rotation is fitted to; more change it little.
_FITTED = 1 << 14


def directions(samples: FloatArray, dimension: int) -> Doubles:
    """Directions [d, dimension] whose signs can say most of samples [N, d].

    They are the principal ones, orthonormal and orthogonal to the mean: signs have no offset, and along the mean all
    descriptors would have the same one. Where d is no more than `dimension` all are kept, and the rest is 0.
    """
    width = samples.shape[1]
    if width <= dimension:
        return np.eye(width, dimension)
    mean = samples.mean(axis=0, dtype=np.float64)
    centred = samples.astype(np.float64) - mean
    unit = mean / (np.linalg.norm(mean) or 1.0)
    centred -= np.outer(centred @ unit, unit)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return np.asarray(axes[:, ::-1][:, :dimension], dtype=np.float64)


def rotation(values: Doubles, seed: int, iterations: int = _ITERATIONS) -> tuple[Doubles, list[float]]:
    """The rotation R [d, d] for which values [N, d] times R lie nearest to their signs.

    Returns:
        R, and the quantisation error |sign(V R) - V R|^2 / (N d), of values scaled to a variance of 1, before the first
        and after every iteration (equation 2 of the paper); it never rises.
    """
    rng = np.random.default_rng(seed)
    scaled = values[rng.permutation(len(values))[:_FITTED]].astype(np.float64)
    scaled /= np.sqrt((scaled**2).mean()) or 1.0
    turn = np.linalg.qr(rng.standard_normal((values.shape[1],) * 2))[0]
    errors = [_error(scaled @ turn)]
    for _ in range(iterations):
        left, _, right = np.linalg.svd(scaled.T @ _signs(scaled @ turn))
        turn = left @ right
        errors.append(_error(scaled @ turn))
    return turn, errors


def _signs(values: Doubles) -> Doubles:
    return np.where(values >= 0, 1.0, -1.0)


def _error(values: Doubles) -> float:
    return float(((_signs(values) - values) ** 2).mean())
