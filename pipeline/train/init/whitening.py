"""Whitening by labels or by pairs: directions in which images of one thing vary get a smaller weight.

The initial projection of the Reranking Transformers, of AMES and of a new global head; by pairs, what `adapt` learns.
Mikolajczyk and Matas, "Improving descriptors for fast tree matching by optimal linear projection", ICCV 2007; with
shrinkage, because classes are small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.train.data.hold_out import rows_by_label
from pipeline.types import FloatArray


@dataclass(frozen=True)
class Whitening:
    """x -> x @ weight.T + bias, with `weight` [d, D] and `bias` [d] float32."""

    weight: FloatArray
    bias: FloatArray

    def apply(self, vectors: FloatArray) -> FloatArray:
        """[N, D] to [N, d]."""
        return np.asarray(vectors @ self.weight.T + self.bias, dtype=np.float32)


def within_class_whitening(vectors: FloatArray, labels: Sequence[str], dimension: int, shrinkage: float) -> Whitening:
    """Whiten by the covariance within labels, then keep the directions of largest variance.

    Args:
        vectors: [N, D].
        labels: of each; "" is a distractor, which is ignored.
        dimension: d, at most D.
        shrinkage: in (0, 1]: how much of the covariance is replaced by a multiple of the identity.
    """
    groups = [rows for label, rows in rows_by_label(labels).items() if label]
    used = np.concatenate(groups)
    samples = vectors[used].astype(np.float64)
    mean = samples.mean(axis=0)
    residuals = np.concatenate([vectors[rows] - vectors[rows].mean(axis=0) for rows in groups]).astype(np.float64)
    return _whitened(samples, mean, residuals.T @ residuals / len(used), dimension, shrinkage)


def pair_whitening(
    vectors: FloatArray,
    pairs: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    dimension: int,
    shrinkage: float,
) -> Whitening:
    """Whiten by the covariance of differences of pairs that show the same thing, then keep the largest variance.

    Radenovic, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019, section 3.4, with
    shrinkage and weights.

    Args:
        vectors: [N, D], of the collection; the directions that are kept are those of its variance.
        pairs: [P, 2] rows.
        weights: [P], at least 0, how sure each pair is.
        dimension: d, at most D.
        shrinkage: in (0, 1], see `within_class_whitening`.
    """
    samples = vectors.astype(np.float64)
    differences = samples[pairs[:, 0]] - samples[pairs[:, 1]]
    within = (differences * weights[:, None]).T @ differences / (2 * weights.sum())
    return _whitened(samples, samples.mean(axis=0), within, dimension, shrinkage)


def _whitened(
    samples: npt.NDArray[np.float64],
    mean: npt.NDArray[np.float64],
    within: npt.NDArray[np.float64],
    dimension: int,
    shrinkage: float,
) -> Whitening:
    """Whiten samples [n, D] by a covariance [D, D], and keep the directions in which they vary most."""
    # Labels of one image each, or of copies, do not vary at all; then all directions have the same weight.
    spread = np.trace(within) / len(within) or 1.0
    within = (1 - shrinkage) * within + shrinkage * spread * np.eye(len(within))
    variances, directions = np.linalg.eigh(within)
    whiten = directions / np.sqrt(variances)
    whitened = (samples - mean) @ whiten
    _, axes = np.linalg.eigh(whitened.T @ whitened / len(samples))
    weight = (whiten @ axes[:, ::-1][:, :dimension]).T
    weight /= np.sqrt(((samples - mean) @ weight.T).var(axis=0).sum())
    return Whitening(weight.astype(np.float32), (-weight @ mean).astype(np.float32))
