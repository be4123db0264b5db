"""What all keypoint extractors share: resizing, batches of one shape, and the way back to the original's pixels.

Below the files of the kinds, which detect. A picture is resized so that its longer side has `size` pixels; a side that
is too short for the detector is padded, and nothing is found in the padding. A picture of one colour has no keypoints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pipeline.describe.preprocessing import clip
from pipeline.errors import UsageError
from pipeline.imaging import resize
from pipeline.types import Box, FloatArray, Keypoints, KeypointsCard, PreparedKeypoints

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Found:
    """The n keypoints of one picture, in any order.

    Attributes:
        xy: [n, 2] float32, pixels of the picture; the centre of its first pixel is (0, 0).
        descriptors: [n, d] float32, rows of unit length.
        score: [n] float32, at least 0.
        scale, orientation: [n] float32, as in `Keypoints`; None: the detector knows none.
    """

    xy: FloatArray
    descriptors: FloatArray
    score: FloatArray
    scale: FloatArray | None = None
    orientation: FloatArray | None = None


class Extractor(ABC):
    """The base of all extractors; see `pipeline.types.KeypointExtractor`.

    Args:
        weights: "sha256:..."; "" where there are none.
        size: pixels of the longer side of the picture that the detector reads.
        count: keypoints per picture, at most; the strongest are kept.
        settings: further options of `load`, for the card.

    Attributes:
        kind: the registry name.
        dimension: d of the descriptors.
        multiple: sides that the detector reads are multiples of this.
        smallest: the detector reads no shorter side.
    """

    kind: ClassVar[str]
    dimension: ClassVar[int]
    multiple: ClassVar[int] = 1
    smallest: ClassVar[int] = 1

    def __init__(self, weights: str, size: int, count: int, settings: Mapping[str, Any]) -> None:
        for name, value in (("size", size), ("count", count)):
            if value < 1:
                raise UsageError(f"keypoints of {self.kind}: {name} = {value}; it must be at least 1")
        self._size, self._count = size, count
        self._card = KeypointsCard(self.kind, weights, {"size": size, "count": count, **settings}, self.dimension)

    @property
    def card(self) -> KeypointsCard:
        """See `KeypointExtractor.card`."""
        return self._card

    def prepare(self, image: Pixels, bbox: Box | None = None) -> PreparedKeypoints:
        """See `KeypointExtractor.prepare`. Raises RelookError when the `bbox` lies outside the picture."""
        height, width = image.shape[:2]
        left, top, right, bottom = (0, 0, width, height) if bbox is None else clip(bbox, width, height)
        part = image[top:bottom, left:right]
        resized = resize(np.ascontiguousarray(part), self._resized(right - left, bottom - top), "bilinear")
        return PreparedKeypoints(resized, (float(left), float(top), float(right), float(bottom)))

    def extract(self, batch: Sequence[PreparedKeypoints]) -> list[Keypoints]:
        """See `KeypointExtractor.extract`."""
        found: dict[int, Found] = {}
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for number, item in enumerate(batch):
            if np.ptp(item.pixels.reshape(-1, 3), axis=0).any():
                by_shape.setdefault(item.pixels.shape, []).append(number)
        for numbers in by_shape.values():
            pictures = np.stack([self._padded(batch[number].pixels) for number in numbers])
            found |= zip(numbers, self.detect(pictures), strict=True)
        return [self._keypoints(item, found.get(number)) for number, item in enumerate(batch)]

    @abstractmethod
    def detect(self, pictures: Pixels) -> list[Found]:
        """The keypoints of pictures [B, h, w, 3] uint8 RGB."""

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height to resize to; a multiple is kept where the side has room for one."""
        factor = self._size / max(width, height)
        sides = []
        for side in (width, height):
            nearest = round(side * factor / self.multiple) * self.multiple
            sides.append(nearest or max(1, round(side * factor)))
        return sides[0], sides[1]

    def _padded(self, pixels: Pixels) -> Pixels:
        """At the right and at the bottom, with the last column and row."""
        bottom, right = (self._missing(side) for side in pixels.shape[:2])
        return np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="edge") if bottom or right else pixels

    def _missing(self, side: int) -> int:
        needed = max(side, self.smallest)
        return -(-needed // self.multiple) * self.multiple - side

    def _keypoints(self, item: PreparedKeypoints, found: Found | None) -> Keypoints:
        """In pixels of the original, strongest first, without those of the padding."""
        if found is None:
            nothing = np.zeros(0, np.float32)
            return Keypoints(
                np.zeros((0, 2), np.float32), np.zeros((0, self.dimension), np.float32), nothing, nothing, nothing,
                item.region,
            )  # fmt: skip
        height, width = item.pixels.shape[:2]
        inside = (found.xy >= -0.5).all(axis=1) & (found.xy < (width - 0.5, height - 0.5)).all(axis=1)
        rows = np.flatnonzero(inside & np.isfinite(found.descriptors).all(axis=1) & np.isfinite(found.score))
        # Ties by position, so that their order does not depend on the detector's.
        order = np.lexsort((found.xy[rows, 0], found.xy[rows, 1], -found.score[rows]))
        rows = rows[order][: self._count]
        left, top, right, bottom = item.region
        step = np.array([(right - left) / width, (bottom - top) / height])
        # (xy + 0.5) * step - 0.5, with nothing to round where the step is 1.
        xy = found.xy[rows].astype(np.float64) * step + (step - 1) / 2 + (left, top)
        zeros = np.zeros(len(rows), np.float32)
        return Keypoints(
            xy.astype(np.float32),
            np.ascontiguousarray(found.descriptors[rows], dtype=np.float32),
            found.score[rows].astype(np.float32),
            zeros if found.scale is None else found.scale[rows].astype(np.float32),
            zeros if found.orientation is None else found.orientation[rows].astype(np.float32),
            item.region,
        )
