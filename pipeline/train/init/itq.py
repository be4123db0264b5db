"""Iterative quantisation: the rotation with the smallest error when only the signs of descriptors are kept.

The start of the bits of a binarised AMES. Gong and Lazebnik, "Iterative Quantization: A Procrustean Approach to
Learning Binary Codes", CVPR 2011: PCA, then alternating steps that choose the nearest signs and the best rotation
towards them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.types import FloatArray

Doubles = npt.NDArray[np.float64]

# The paper's.
_ITERATIONS = 50
# Descriptors that a rotation is fitted to; more change little.
_FITTED = 1 << 14


def principal_directions(samples: FloatArray, dimension: int) -> Doubles:
    """Principal directions [d, dimension] of samples [N, d], orthonormal and orthogonal to their mean.

    Signs have no offset: along the mean all descriptors would have the same sign. Where d is at most `dimension`, all
    directions are kept and the remaining columns are 0.
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


def fit_rotation(values: Doubles, seed: int, iterations: int = _ITERATIONS) -> tuple[Doubles, list[float]]:
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
