"""Local descriptors of the training images, read from the index when a batch needs them.

Between the index and the recipe of `ames`. Up to 2 GiB are cached; the rest of a larger collection is read again in
every epoch, so that memory stays flat.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from pipeline.train.loop.task import Rows
from pipeline.types import DescriptorSource, FloatArray

# Bytes that are cached, and values that a closed-form start is fitted on.
_CACHED = 2 << 30
_SAMPLED = 1 << 25


class Side(NamedTuple):
    """One side of B pairs: descriptors [B, n, d] float32; padding [B, n] bool, True where there is none, or None."""

    descriptors: torch.Tensor
    padding: torch.Tensor | None

    def first(self, count: int) -> Side:
        """The strongest `count` of each image."""
        return Side(self.descriptors[:, :count], None if self.padding is None else self.padding[:, :count])

    def to(self, device: torch.device) -> Side:
        """On a device."""
        return Side(self.descriptors.to(device), None if self.padding is None else self.padding.to(device))


class StoredLocals:
    """The strongest descriptors of N images; thread-safe.

    Args:
        source: reads them.
        ids: of the N images.
        most: descriptors per image at most.
    """

    def __init__(self, source: DescriptorSource, ids: Sequence[str], most: int) -> None:
        self._source, self._ids, self._most = source, ids, most
        self._cached: dict[int, npt.NDArray[np.float16]] = {}
        self._room = _CACHED
        self._lock = Lock()

    def side(self, rows: torch.Tensor, count: int) -> Side:
        """The strongest `count` of the images in these rows [B]; an image without any has a single zero vector."""
        parts = [self._read(row)[:count] for row in rows.tolist()]
        lengths = torch.tensor([len(part) for part in parts])
        descriptors = torch.zeros(len(parts), int(lengths.max()), parts[0].shape[1])
        for place, part in enumerate(parts):
            descriptors[place, : len(part)] = torch.from_numpy(part)
        padding = torch.arange(descriptors.shape[1]) >= lengths[:, None]
        return Side(descriptors, padding if padding.any() else None)

    def sample(self) -> tuple[FloatArray, Rows]:
        """Descriptors [M, d] float32 of unit length, and the row [M] of each one's image.

        All of them, or an even sample where they are too many for a closed-form fit: every k-th descriptor, of every
        n-th image.
        """
        most = _SAMPLED // self._read(0).shape[1]
        images = range(0, len(self._ids), -(-len(self._ids) // most))
        step = -(-self._most // max(1, most // len(images)))
        parts = [self._read(row)[::step].astype(np.float32) for row in images]
        samples = np.concatenate(parts)
        lengths = np.linalg.norm(samples, axis=1, keepdims=True)
        rows = np.repeat(np.array(images), [len(part) for part in parts])
        nonzero = lengths[:, 0] > 0
        return samples[nonzero] / lengths[nonzero], rows[nonzero]

    def _read(self, row: int) -> npt.NDArray[np.float16]:
        with self._lock:
            if row in self._cached:
                return self._cached[row]
            found = self._source.locals([self._ids[row]])[0].descriptors[: self._most].astype(np.float16)
            if not len(found):
                found = np.zeros((1, found.shape[1]), np.float16)
            if found.nbytes <= self._room:
                self._room -= found.nbytes
                self._cached[row] = found
            return found
