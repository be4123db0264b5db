"""The matcher `mutual`: mutual nearest neighbours of descriptors, with an optional ratio test (Lowe, IJCV 2004, 7.1).

For any keypoints; no weights. On a GPU products of padded batches of candidates; on a CPU a product of each pair, of
which no more than the caches hold is computed before it is searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch.nn import functional

from pipeline.errors import RelookError, UsageError
from pipeline.rerank.matching.pair_batches import (
    Pair,
    match_in_batches,
    mutual_maxima,
    mutual_maxima_of,
    numpy_matches,
    refuse_other_kind,
)
from pipeline.rerank.parallel_batches import ThreadMemory
from pipeline.types import Keypoints, KeypointsCard, Matches

# Rows of a product that are computed and searched at once on a CPU.
_ROWS = 256


class MutualMatcher:
    """Matches keypoints that are each other's nearest by the cosine of their descriptors.

    The score of a match is the cosine, at least 0. Both directions are treated alike: the matches of (a, b) are those
    of (b, a), columns exchanged.

    Args:
        features: the kind of keypoints.
        ratio: the distance to the nearest is below `ratio` times that to the second nearest, seen from either image;
            in (0, 1]; None: no such test. An image with one keypoint has no second nearest, and passes.
        min_cosine: of a match, in [-1, 1]; None: any.
        batch_size: pairs per batch, at most.
        device: where it runs.

    Raises:
        UsageError: a value is out of its range.
    """

    name = "mutual"

    def __init__(
        self,
        features: str,
        ratio: float | None = None,
        min_cosine: float | None = None,
        batch_size: int = 64,
        device: str = "cpu",
    ) -> None:
        if ratio is not None and not 0 < ratio <= 1:
            raise UsageError(f"matcher mutual: ratio = {ratio} must be above 0 and at most 1")
        if min_cosine is not None and not -1 <= min_cosine <= 1:
            raise UsageError(f"matcher mutual: min_cosine = {min_cosine} must be from -1 to 1")
        self.features = features
        self._ratio = ratio
        self._min_cosine = min_cosine
        self._batch_size = batch_size
        self._device = torch.device(device)
        self._memory = ThreadMemory()

    @classmethod
    def load(
        cls,
        features: str,
        checkpoint: str | Path | None = None,
        device: str = "cpu",
        ratio: float | None = None,
        min_cosine: float | None = None,
        batch_size: int = 64,
    ) -> Self:
        """Make one. Raises UsageError for a checkpoint, which it has none of."""
        if checkpoint is not None:
            raise UsageError(f"{checkpoint}: matcher mutual has no weights; set rerank.matching.checkpoint=null")
        return cls(features, ratio, min_cosine, batch_size, device)

    def check(self, card: KeypointsCard) -> None:
        """See `Matcher.check`."""
        refuse_other_kind(self.name, self.features, None, card)

    def match(self, pairs: Sequence[Pair]) -> list[Matches]:
        """See `Matcher.match`. Raises RelookError when the descriptors of two images differ in their size."""
        for first, second in pairs:
            widths = first.descriptors.shape[1], second.descriptors.shape[1]
            if len(first) and len(second) and widths[0] != widths[1]:
                raise RelookError(f"descriptors of {widths[0]} and of {widths[1]} values cannot be matched")
        return match_in_batches(pairs, partial(self._match_batch, pairs), self._batch_size, self._device)

    def _match_batch(self, pairs: Sequence[Pair], numbers: Sequence[int]) -> list[Matches]:
        with torch.inference_mode():
            if self._device.type == "cpu":
                return [self._match_pair(*pairs[number]) for number in numbers]
            first = _stacked([pairs[number][0] for number in numbers], self._device)
            second = _stacked([pairs[number][1] for number in numbers], self._device)
            cosines = first @ second.transpose(1, 2)
            return [
                self._match_one(cosines[row, : len(pairs[number][0]), : len(pairs[number][1])])
                for row, number in enumerate(numbers)
            ]

    def _match_pair(self, first: Keypoints, second: Keypoints) -> Matches:
        left, right = (torch.from_numpy(np.ascontiguousarray(image.descriptors)) for image in (first, second))
        if self._ratio is not None:  # which searches for the second nearest as well
            return self._match_one(left @ right.T)
        return self._kept(*mutual_maxima_of(_products(left, right, self._memory)))

    def _match_one(self, cosines: torch.Tensor) -> Matches:
        return self._kept(*mutual_maxima(cosines), cosines)

    def _kept(
        self, rows: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, cosines: torch.Tensor | None = None
    ) -> Matches:
        """Those of mutual neighbours [k] that are near enough."""
        kept = torch.ones_like(rows, dtype=torch.bool)
        if self._min_cosine is not None:
            kept &= values >= self._min_cosine
        if self._ratio is not None and cosines is not None:
            kept &= _passes(cosines, rows, columns, values, self._ratio)
            kept &= _passes(cosines.T, columns, rows, values, self._ratio)
        return numpy_matches(rows[kept], columns[kept], values[kept].clamp(0, 1))


def _products(left: torch.Tensor, right: torch.Tensor, memory: ThreadMemory) -> Iterator[torch.Tensor]:
    """Products [r, n] of some rows of `left` [m, d] with `right` [n, d], all in the same memory."""
    for start in range(0, len(left), _ROWS):
        rows = left[start : start + _ROWS]
        yield torch.mm(rows, right.T, out=memory.of((len(rows), len(right)), left))


def _passes(
    cosines: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, ratio: float
) -> torch.Tensor:
    """[k] bool: whether the nearest of each of `rows` is by `ratio` nearer than the second nearest."""
    others = cosines[rows].scatter(1, columns[:, None], float("-inf"))
    second = others.amax(dim=1)
    # Squared distances of unit vectors. Without a second, it is infinitely far.
    return (2 - 2 * values).clamp(min=0) < ratio**2 * (2 - 2 * second).clamp(min=0)


def _stacked(images: Sequence[Keypoints], device: torch.device) -> torch.Tensor:
    """[B, n, d] descriptors, zeros behind those of images that have fewer than the others."""
    longest = max(map(len, images))
    rows = [torch.from_numpy(np.ascontiguousarray(image.descriptors)).to(device) for image in images]
    return torch.stack([functional.pad(row, (0, 0, 0, longest - len(row))) for row in rows])
