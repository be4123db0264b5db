"""Descriptions of the training images, read from the index when a batch needs them.

Between the index and the recipe of `locore`, which reads global and local descriptors and their scales. Up to 2 GiB are
cached; the rest of a larger collection is read again in every epoch, so that memory stays flat.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import numpy as np

from pipeline.train.loop.task import Rows
from pipeline.types import Description, DescriptorSource, FloatArray, LocalDescriptors

_CACHED = 2 << 30


class StoredDescriptions:
    """The global and the strongest local descriptors of N images; thread-safe.

    Args:
        source: reads the locals.
        ids: of the N images.
        vectors: [N, D] their global descriptors.
        most: local descriptors per image at most.
    """

    def __init__(self, source: DescriptorSource, ids: Sequence[str], vectors: FloatArray, most: int) -> None:
        self._source, self._ids, self._vectors, self._most = source, ids, vectors, most
        self._cached: dict[int, LocalDescriptors] = {}
        self._room = _CACHED
        self._lock = Lock()

    def read(self, rows: Rows) -> list[Description]:
        """The images in these rows [n]."""
        wanted = np.unique(rows).tolist()
        with self._lock:
            found = {row: self._cached[row] for row in wanted if row in self._cached}
            missing = [row for row in wanted if row not in found]
            parts = self._source.locals([self._ids[row] for row in missing]) if missing else []
            for row, part in zip(missing, parts, strict=True):
                found[row] = part.first(self._most)
                self._keep(row, found[row])
        return [Description(self._vectors[row], found[row]) for row in rows.tolist()]

    def _keep(self, row: int, part: LocalDescriptors) -> None:
        if part.descriptors.nbytes <= self._room:
            self._room -= part.descriptors.nbytes
            # A copy: the first descriptors are a view, which would keep all of them.
            self._cached[row] = LocalDescriptors(part.descriptors.copy(), part.xy, part.scale, part.weight)
