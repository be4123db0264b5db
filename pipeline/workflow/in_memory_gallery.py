"""A gallery in memory: images that were just described, searched exactly.

Used in validation while a describer is trained, when the stored descriptors are out of date.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from pipeline.errors import RelookError
from pipeline.stores.exact.named_vectors import NamedVectors
from pipeline.types import Box, Description, FeatureMaps, FloatArray, Keypoints, LocalDescriptors

Part = TypeVar("Part")


class InMemoryGallery:
    """A `DescriptorSource`, and a store that is searched exactly.

    Args:
        ids: of N images.
        descriptions: one per image.
    """

    def __init__(self, ids: Sequence[str], descriptions: Sequence[Description]) -> None:
        self._found = dict(zip(ids, descriptions, strict=True))
        self._vectors = NamedVectors(ids, np.stack([description.vector for description in descriptions]))

    def __getitem__(self, name: str) -> Description:
        return self._found[name]

    @property
    def store(self) -> InMemoryGallery:
        """Itself."""
        return self

    def query(self, vectors: FloatArray, top_k: int) -> list[tuple[list[str], FloatArray]]:
        """See `VectorStore.query`."""
        return self._vectors.query(vectors, top_k)

    def globals(self, ids: Sequence[str]) -> FloatArray:
        """See `DescriptorSource.globals`."""
        return np.stack([self._found[name].vector for name in ids])

    def locals(self, ids: Sequence[str]) -> list[LocalDescriptors]:
        """See `DescriptorSource.locals`."""
        return _all([self._found[name].locals for name in ids])

    def maps(self, ids: Sequence[str]) -> list[FeatureMaps]:
        """See `DescriptorSource.maps`."""
        return _all([self._found[name].maps for name in ids])

    def keypoints(self, ids: Sequence[str]) -> list[Keypoints]:
        """See `DescriptorSource.keypoints`."""
        return _all([self._found[name].keypoints for name in ids])

    def regions(self, ids: Sequence[str]) -> list[Box]:
        """See `DescriptorSource.regions`."""
        return _all([self._found[name].region for name in ids])


def _all(parts: Sequence[Part | None]) -> list[Part]:
    there = [part for part in parts if part is not None]
    if len(there) < len(parts):
        raise RelookError("the trained describer does not give what its reranker reads")
    return there
