"""SIFT by OpenCV with the descriptors of RootSIFT (Lowe, IJCV 2004; Arandjelovic and Zisserman, CVPR 2012).

No weights and no network; 128 values per keypoint, with scale and orientation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import cv2
import numpy as np

from pipeline.describe.keypoints.base import Extractor, Found, Pixels
from pipeline.errors import UsageError
from pipeline.types import FloatArray


class SIFTExtractor(Extractor):
    """Keypoints of the difference of Gaussians; one point may be there with several orientations."""

    kind = "sift"
    dimension = 128
    smallest = 16

    def __init__(self, size: int, count: int, threshold: float) -> None:
        super().__init__("", size, count, {"threshold": threshold})
        self._threshold = threshold

    @classmethod
    def load(
        cls, checkpoint: Path | None, device: str, *, size: int = 1024, count: int = 1024, threshold: float = 0.04
    ) -> Self:
        """Make one.

        Args:
            checkpoint: must be None.
            device: not used; OpenCV computes on the CPU.
            size, count: see `Extractor`.
            threshold: of the contrast, Lowe's; smaller: more keypoints.

        Raises:
            UsageError: a checkpoint is given.
        """
        if checkpoint is not None:
            raise UsageError(f"keypoints of sift have no weights; leave the checkpoint {checkpoint} out")
        return cls(size, count, threshold)

    def detect(self, pictures: Pixels) -> list[Found]:
        """See `Extractor.detect`."""
        return [self._detect(picture) for picture in pictures]

    def _detect(self, picture: Pixels) -> Found:
        # Made anew for each picture: OpenCV does not say that threads may share one.
        sift = cv2.SIFT_create(  # type: ignore[attr-defined]
            nfeatures=self._count, contrastThreshold=self._threshold, enable_precise_upscale=True
        )
        points, values = sift.detectAndCompute(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), None)
        if not points:
            values = np.zeros((0, self.dimension), np.float32)
        places = [(*point.pt, point.response, point.size, point.angle) for point in points]
        table = np.array(places, dtype=np.float32).reshape(-1, 5)
        rows = np.flatnonzero(values.sum(axis=1) > 0)
        table = table[rows]
        return Found(table[:, :2], root_sift(values[rows]), table[:, 2], table[:, 3], np.deg2rad(table[:, 4]))


def root_sift(values: FloatArray) -> FloatArray:
    """The square roots of descriptors [n, 128] of sum 1; of unit length."""
    rooted: FloatArray = np.sqrt(values / values.sum(axis=1, keepdims=True), dtype=np.float32)
    return rooted
