"""Descriptors of images: global, local, keypoints, feature maps; and an image that is ready for the network.

Made by describers, kept by the index and the stores, read by rerankers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.types.images import Box

FloatArray = npt.NDArray[np.float32]
FeatureMaps = tuple[npt.NDArray[np.floating[Any]], ...]


@dataclass(frozen=True)
class GlobalDescriptors:
    """`ids` (N of them) and `vectors` [N, D] float32, each row of unit length."""

    ids: Sequence[str]
    vectors: FloatArray


@dataclass(frozen=True)
class StoredVectors:
    """What a store holds of some ids: `ids` (N), `vectors` [N, D] float32, `metadata` (N mappings of strings)."""

    ids: Sequence[str]
    vectors: FloatArray
    metadata: Sequence[Mapping[str, str]]

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, numbers: Sequence[int] | npt.NDArray[np.integer[Any]]) -> StoredVectors:
        """Some of the rows, in the order of `numbers`."""
        chosen = np.asarray(numbers, dtype=np.intp)
        return StoredVectors(
            [self.ids[row] for row in chosen], self.vectors[chosen], [self.metadata[row] for row in chosen]
        )


@dataclass(frozen=True)
class LocalDescriptors:
    """The n local descriptors of one image, strongest first.

    Attributes:
        descriptors: [n, d] float32, rows of unit length, unless the model card's `locals` says that they are a whole
            map (kind: map), whose cells are as long as the network, or the PCA of `dimension` values, left them; or
            projected for AMES (+1 and -1 where they are bits).
        xy: [n, 2] float32, x and y in pixels of the upright original.
        scale: [n] float32, the size of what was seen, relative to what is seen at the image's own size: 1 over the
            factor by which the image was resized (the convention of DELF's files).
        weight: [n] float32, the strength by which it was chosen, at least 0; of kind class_token a cosine.

    `xy`, `scale` and `weight` have no rows where the index does not keep them (`describe.locals.geometry`).
    """

    descriptors: FloatArray
    xy: FloatArray
    scale: FloatArray
    weight: FloatArray

    def __len__(self) -> int:
        return len(self.descriptors)

    def first(self, count: int | None) -> LocalDescriptors:
        """The first `count`, which are the strongest; all where `count` is None."""
        return LocalDescriptors(self.descriptors[:count], self.xy[:count], self.scale[:count], self.weight[:count])


@dataclass(frozen=True)
class Keypoints:
    """The n keypoints of one image, strongest first.

    Attributes:
        xy: [n, 2] float32, x and y in pixels of the upright original; the centre of its first pixel is (0, 0).
        descriptors: [n, d] float32, rows of unit length.
        score: [n] float32, the detector's confidence, at least 0.
        scale: [n] float32, diameter in pixels of the picture that the detector read; 0 where it knows none.
        orientation: [n] float32, radians, clockwise from the x axis; 0 where the detector knows none.
        region: x0, y0, x1, y1 in pixels of the upright original: the part of it that the detector read.
    """

    xy: FloatArray
    descriptors: FloatArray
    score: FloatArray
    scale: FloatArray
    orientation: FloatArray
    region: Box

    def __len__(self) -> int:
        return len(self.xy)

    def first(self, count: int) -> Keypoints:
        """The first `count`, which are the strongest."""
        rows = slice(count)
        return Keypoints(
            self.xy[rows],
            self.descriptors[rows],
            self.score[rows],
            self.scale[rows],
            self.orientation[rows],
            self.region,
        )


@dataclass(frozen=True)
class Description:
    """What a describer says of one image.

    Attributes:
        vector: [D] float32 of unit length, the global descriptor.
        locals: its local descriptors, or None.
        maps: one [C, h, w] float16 or float32 array per level of the maps that CVNet-Rerank compares, or None.
        keypoints: its keypoints, or None.
        region: x0, y0, x1, y1 in pixels of the upright original: the part of it that was described; None where that is
            not known.
    """

    vector: FloatArray
    locals: LocalDescriptors | None = None
    maps: FeatureMaps | None = None
    keypoints: Keypoints | None = None
    region: Box | None = None


@dataclass(frozen=True)
class PreparedKeypoints:
    """One picture, ready for a keypoint detector.

    Attributes:
        pixels: [h, w, 3] uint8 RGB.
        region: x0, y0, x1, y1 in pixels of the upright original that `pixels` shows.
    """

    pixels: npt.NDArray[np.uint8]
    region: Box


@dataclass(frozen=True)
class Prepared:
    """One picture, ready for the network.

    Attributes:
        pixels: one [3, h, w] uint8 array per scale.
        to_original: per scale, (sx, sy, dx, dy): x_original = x_pixel * sx + dx, and so for y.
        scales: the nominal factor of each entry.
        width, height: size in pixels of the upright original.
        keypoints: the same picture for a detector of keypoints, or None.
    """

    pixels: Sequence[npt.NDArray[np.uint8]]
    to_original: Sequence[tuple[float, float, float, float]]
    scales: Sequence[float]
    width: int
    height: int
    keypoints: PreparedKeypoints | None = None

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """Equal for pictures that can share a batch."""
        return tuple(p.shape for p in self.pixels)
