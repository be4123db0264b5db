"""A collection as a whole: its principal components, clusters, and images that are like no other.

Reads the global descriptors of an index part by part, without a network. Used by the verbs `map` and `info`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from pipeline.stores import Index
from pipeline.types import FloatArray

# Components that clusters and UMAP read: most of what a descriptor says, in a tenth of its size.
COMPONENTS = 50


def principal_components(index: Index, count: int = COMPONENTS) -> FloatArray:
    """The images on the first principal components of their global descriptors, [N, min(count, D)] float32.

    Two passes over the index: memory holds the covariance [D, D] and the result.
    """
    dimension = index.card.dimension
    total, products, images = np.zeros(dimension), np.zeros((dimension, dimension)), 0
    for vectors in _pieces(index):
        images += len(vectors)
        total += vectors.sum(axis=0, dtype=np.float64)
        products += vectors.T @ vectors
    mean = total / images
    largest = (max(0, dimension - count), dimension - 1)
    chosen = eigh(products / images - np.outer(mean, mean), subset_by_index=largest)[1][:, ::-1]
    # The sign of an eigenvector is arbitrary: the largest value is made positive, so that runs agree.
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(chosen.shape[1])])
    return np.concatenate([(vectors - mean) @ chosen for vectors in _pieces(index)]).astype(np.float32)


def clusters(components: FloatArray, count: int, seed: int) -> npt.NDArray[np.int64]:
    """The cluster of each image, numbered from 0 by size: k-means on its components [N, C]."""
    from sklearn.cluster import MiniBatchKMeans

    count = min(count, len(np.unique(components, axis=0)))
    found = MiniBatchKMeans(count, random_state=seed, n_init=3, batch_size=4096).fit_predict(components)
    order = np.argsort(-np.bincount(found, minlength=count), kind="stable")
    numbers: npt.NDArray[np.int64] = np.argsort(order)[found].astype(np.int64)
    return numbers


def nearest_similarity(index: Index, advance: Callable[[int], None] = lambda rows: None) -> FloatArray:
    """Of each image the cosine to the most similar other one, [N]; N^2 D operations in flat memory.

    Args:
        index: with at least two images.
        advance: told how many more images are compared with all others.
    """
    found: list[FloatArray] = []
    first = 0
    for vectors in _pieces(index):
        best, start = np.full(len(vectors), -np.inf, np.float32), 0
        for others in _pieces(index):
            cosines = vectors @ others.T
            for row in range(max(first, start), min(first + len(vectors), start + len(others))):
                cosines[row - first, row - start] = -np.inf  # the image itself
            np.maximum(best, cosines.max(axis=1), out=best)
            start += len(others)
        found.append(best)
        first += len(vectors)
        advance(len(vectors))
    return np.clip(np.concatenate(found), -1, 1)


def _pieces(index: Index) -> Iterator[FloatArray]:
    for part in index.manifest.parts:
        for _, vectors in index.stream_globals(part):
            yield vectors
