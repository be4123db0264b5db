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

from pipeline.describe.pair_whitening import Doubles, whiten, whitening_from_pairs
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
    """Whiten by the covariance within labels, then keep the directions of largest variance; scaled to a variance of 1.

    Args:
        vectors: [N, D].
        labels: of each; "" is a distractor, which is ignored.
        dimension: d, at most D.
        shrinkage: in (0, 1]: how much of the covariance is replaced by a multiple of the identity.
    """
    mean, matrix = whitening_from_pairs(vectors, labels, dimension, shrinkage)
    samples = vectors[[row for row, label in enumerate(labels) if label]].astype(np.float64)
    return _scaled(samples, mean, matrix)


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
    mean = samples.mean(axis=0)
    return _scaled(samples, mean, whiten(samples - mean, within, dimension, shrinkage))


def _scaled(samples: Doubles, mean: Doubles, matrix: Doubles) -> Whitening:
    """P [D, d] as a layer whose outputs for the samples have a variance of 1 in all."""
    weight = matrix.T / np.sqrt(((samples - mean) @ matrix).var(axis=0).sum())
    return Whitening(weight.astype(np.float32), (-weight @ mean).astype(np.float32))
