"""Within-class whitening: directions in which images of one label vary get a smaller weight.

The initial projection of the Reranking Transformers, of AMES and of a new global head. Mikolajczyk and Matas,
"Improving descriptors for fast tree matching by optimal linear projection", ICCV 2007; with shrinkage, because classes
are small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.describe.pair_whitening import whitening_from_pairs
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
    weight = matrix.T
    samples = vectors[[row for row, label in enumerate(labels) if label]].astype(np.float64)
    weight = weight / np.sqrt(((samples - mean) @ weight.T).var(axis=0).sum())
    return Whitening(weight.astype(np.float32), (-weight @ mean).astype(np.float32))
