"""PCA-whitening that is learnt from matching pairs: what differs between images of one label gets a smaller weight.

Mikolajczyk and Matas, "Improving Descriptors for Fast Tree Matching by Optimal Linear Projection", ICCV 2007, as used
for global descriptors by Radenovic, Tolias, Chum, "Fine-Tuning CNN Image Retrieval with No Human Annotation", TPAMI
2019, section on whitening and dimensionality reduction. With the covariance of matching pairs

    C_S = mean of (x_i - x_j)(x_i - x_j)^T over the pairs of images of one label

and the covariance C of all, a descriptor becomes P^T (x - mean), where P = C_S^-1/2 times the leading eigenvectors of
C_S^-1/2 C C_S^-1/2. Labels are small here, so part of C_S is replaced by a multiple of the identity (`shrinkage`).
Fitted by `projections.py` for a describer, and by training for the first layer of a head.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.types import FloatArray

Doubles = npt.NDArray[np.float64]


def whitening_from_pairs(
    vectors: FloatArray, labels: Sequence[str], dimension: int, shrinkage: float
) -> tuple[Doubles, Doubles]:
    """The mean [D] and P [D, d] of vectors [N, D].

    A label with n images has n^2 ordered pairs, whose mean is twice the covariance within it; it weighs n, so that
    each image counts once.

    Args:
        vectors: [N, D].
        labels: of each; "" is ignored.
        dimension: d, at most D.
        shrinkage: in (0, 1]: how much of C_S is replaced.
    """
    groups = [rows for label, rows in _rows_by_label(labels).items() if label]
    used = np.concatenate(groups)
    samples = vectors[used].astype(np.float64)
    mean = samples.mean(axis=0)
    residuals = np.concatenate([vectors[rows] - vectors[rows].mean(axis=0) for rows in groups]).astype(np.float64)
    return mean, whiten(samples - mean, residuals.T @ residuals / len(used), dimension, shrinkage)


def whiten(centred: Doubles, within: Doubles, dimension: int, shrinkage: float) -> Doubles:
    """P [D, d] of samples [n, D] without their mean, and of half the covariance [D, D] of matching pairs."""
    # Labels of one image each, or of copies, do not vary at all; then all directions have the same weight.
    spread = np.trace(within) / len(within) or 1.0
    within = (1 - shrinkage) * within + shrinkage * spread * np.eye(len(within))
    variances, directions = np.linalg.eigh(within)
    equalised = directions / np.sqrt(variances)
    samples = centred @ equalised
    _, axes = np.linalg.eigh(samples.T @ samples / len(samples))
    return np.asarray(equalised @ axes[:, ::-1][:, :dimension])


def _rows_by_label(labels: Sequence[str]) -> dict[str, npt.NDArray[np.int64]]:
    """The rows of each label, labels sorted."""
    found: dict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        found[label].append(row)
    return {label: np.array(found[label], dtype=np.int64) for label in sorted(found)}
