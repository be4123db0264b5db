"""What dense matchers share: pictures as tensors, pairs side by side on the cores, and points of the originals.

Between `matchers.py` and the files of the matchers, `loftr.py` and `eloftr.py`. A dense matcher reads the pixels of
both images and has no keypoints; the photos of the index are read when they are matched.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from pipeline.checkpoints import Checkpoint, read_checkpoint
from pipeline.errors import RelookError, UsageError
from pipeline.rerank.matching.pair_batches import Pair, refuse_other_kind
from pipeline.rerank.parallel_batches import map_in_parallel
from pipeline.rerank.transformer import check_precision, inference
from pipeline.types import PICTURE, FloatArray, GreyPicture, Keypoints, KeypointsCard, Matches

# The networks halve a picture three times, and gather 4 x 4 of its cells.
_MULTIPLE = 32


@dataclass(frozen=True)
class Points:
    """k matched points of two pictures.

    Attributes:
        first, second: [k, 2] x and y in pixels of the pictures; the centre of the first pixel is (0, 0).
        scores: [k] in [0, 1].
    """

    first: torch.Tensor
    second: torch.Tensor
    scores: torch.Tensor


class DenseMatcher(ABC):
    """Matches the pixels of pairs of pictures.

    Args:
        network: with its weights.
        threshold: matches have a score above this, in [0, 1].
        device: where it runs.
        precision: of matrix products and convolutions, "float32", "bfloat16", or on CUDA "float16".

    Raises:
        UsageError: a value is unknown or out of its range.
    """

    name: ClassVar[str]

    def __init__(self, network: nn.Module, threshold: float, device: str, precision: str = "float32") -> None:
        if not 0 <= threshold < 1:
            raise UsageError(f"matcher {self.name}: threshold = {threshold} must be at least 0 and below 1")
        self.network: Any = network.to(device).eval()
        self._threshold = threshold
        self._device = torch.device(device)
        self._precision = check_precision(self.name, precision, device)

    def check(self, card: KeypointsCard) -> None:
        """See `Matcher.check`."""
        refuse_other_kind(self.name, PICTURE, None, card)

    def match(self, pairs: Sequence[Pair]) -> list[Matches]:
        """See `Matcher.match`; the strongest first. Each core has one pair, whose result depends on no other.

        A picture of one colour, and an image without a picture, whose photo could not be read, have no matches.
        """
        found: list[Matches] = []
        for _, group in groupby(pairs, key=lambda pair: id(pair[0])):
            together = list(group)
            found += self._match_with_first(together[0][0], together)
        return found

    @abstractmethod
    def begin(self, picture: torch.Tensor) -> Any:
        """What depends on the first picture of pairs alone, of [1, 1, h, w] in [0, 1]; sides are multiples of 32."""

    @abstractmethod
    def compare(self, begun: Any, picture: torch.Tensor) -> Points:
        """The matches of the picture that was begun with another one; those in the padding are dropped by the caller.

        Args:
            begun: of `begin`.
            picture: as there.
        """

    def _match_with_first(self, first: Keypoints, pairs: Sequence[Pair]) -> list[Matches]:
        if not _has_structure(first):
            return [_no_matches() for _ in pairs]
        with inference(self._device, self._precision):
            begun = self.begin(self._tensor(first))

        def work(pair: Pair) -> Matches:
            if not _has_structure(pair[1]):
                return _no_matches()
            with inference(self._device, self._precision):
                points = self.compare(begun, self._tensor(pair[1]))
            return self._in_originals(points, first, pair[1])

        return list(map_in_parallel(work, pairs, self._device))

    def _tensor(self, image: Keypoints) -> torch.Tensor:
        assert isinstance(image, GreyPicture)
        height, width = image.pixels.shape
        padding = [(0, -height % _MULTIPLE), (0, -width % _MULTIPLE)]
        pixels = np.pad(image.pixels, padding, mode="edge")
        return torch.from_numpy(pixels).to(self._device).float()[None, None] / 255

    def _in_originals(self, points: Points, first: Keypoints, second: Keypoints) -> Matches:
        places = [part.float().cpu().numpy() for part in (points.first, points.second)]
        scores = points.scores.float().cpu().numpy().clip(0, 1)
        kept = scores > self._threshold
        for place, image in zip(places, (first, second), strict=True):
            assert isinstance(image, GreyPicture)
            height, width = image.pixels.shape
            kept &= (place >= -0.5).all(axis=1) & (place < (width - 0.5, height - 0.5)).all(axis=1)
        rows = np.flatnonzero(kept)
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        numbers = np.repeat(np.arange(len(rows), dtype=np.int64)[:, None], 2, axis=1)
        left, right = (_of_original(place[rows], image) for place, image in zip(places, (first, second), strict=True))
        return Matches(numbers, scores[rows].astype(np.float32), (left, right))


def released_weights(name: str, checkpoint: str | Path | None, released: str) -> Checkpoint:
    """A published file of weights. Raises RelookError where none is given, or it holds none."""
    if checkpoint is None:
        raise RelookError(f"{name} needs its weights: give {released} with --set rerank.matching.checkpoint=FILE")
    return read_checkpoint(Path(checkpoint))


def _has_structure(image: Keypoints) -> bool:
    return isinstance(image, GreyPicture) and bool(np.ptp(image.pixels))


def _no_matches() -> Matches:
    nowhere = np.zeros((0, 2), np.float32)
    return Matches(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), (nowhere, nowhere))


def _of_original(places: FloatArray, image: Keypoints) -> FloatArray:
    """Pixels of the picture as pixels of the upright original."""
    assert isinstance(image, GreyPicture)
    height, width = image.pixels.shape
    left, top, right, bottom = image.region
    step = np.array([(right - left) / width, (bottom - top) / height])
    return np.asarray((places + 0.5) * step - 0.5 + (left, top), np.float32)
