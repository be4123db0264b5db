"""Local descriptors of the pictures that a reranker learns from, read from the index as batches ask for them.

Between the index and the recipes that compare descriptors alone (`ames`). What fits into the memory is read once; of
larger collections the rest is read again in every epoch, so that memory stays flat.
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

# Bytes that are kept, and values that a closed form is fitted on.
_KEPT = 2 << 30
_SAMPLED = 1 << 25


class Side(NamedTuple):
    """One side of B pairs: descriptors [B, n, d] float32; padding [B, n] bool, True where there is none, or None."""

    descriptors: torch.Tensor
    padding: torch.Tensor | None

    def first(self, count: int) -> Side:
        """The strongest `count` of each picture."""
        return Side(self.descriptors[:, :count], None if self.padding is None else self.padding[:, :count])

    def to(self, device: torch.device) -> Side:
        """On a device."""
        return Side(self.descriptors.to(device), None if self.padding is None else self.padding.to(device))


class StoredLocals:
    """The strongest descriptors of N pictures; any number of threads may ask.

    Args:
        source: where they are read.
        ids: of the N pictures.
        most: how many of each are used at most.
    """

    def __init__(self, source: DescriptorSource, ids: Sequence[str], most: int) -> None:
        self._source, self._ids, self._most = source, ids, most
        self._kept: dict[int, npt.NDArray[np.float16]] = {}
        self._room = _KEPT
        self._lock = Lock()

    def side(self, rows: torch.Tensor, count: int) -> Side:
        """The strongest `count` of the pictures in these rows [B]; one without any has a single zero."""
        parts = [self._read(row)[:count] for row in rows.tolist()]
        lengths = torch.tensor([len(part) for part in parts])
        descriptors = torch.zeros(len(parts), int(lengths.max()), parts[0].shape[1])
        for place, part in enumerate(parts):
            descriptors[place, : len(part)] = torch.from_numpy(part)
        padding = torch.arange(descriptors.shape[1]) >= lengths[:, None]
        return Side(descriptors, padding if padding.any() else None)

    def sample(self) -> tuple[FloatArray, Rows]:
        """Descriptors [M, d] float32 of unit length, and the row [M] of each's picture.

        All of them; where they are so many that a closed form would need a large memory, as many of every picture, or
        one of every so manieth picture.
        """
        most = _SAMPLED // self._read(0).shape[1]
        pictures = range(0, len(self._ids), -(-len(self._ids) // most))
        step = -(-self._most // max(1, most // len(pictures)))
        parts = [self._read(row)[::step].astype(np.float32) for row in pictures]
        samples = np.concatenate(parts)
        lengths = np.linalg.norm(samples, axis=1, keepdims=True)
        rows = np.repeat(np.array(pictures), [len(part) for part in parts])
        there = lengths[:, 0] > 0
        return samples[there] / lengths[there], rows[there]

    def _read(self, row: int) -> npt.NDArray[np.float16]:
        with self._lock:
            if row in self._kept:
                return self._kept[row]
            found = self._source.locals([self._ids[row]])[0].descriptors[: self._most].astype(np.float16)
            if not len(found):
                found = np.zeros((1, found.shape[1]), np.float16)
            if found.nbytes <= self._room:
                self._room -= found.nbytes
                self._kept[row] = found
            return found
