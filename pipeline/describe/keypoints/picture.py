"""The picture itself in the place of keypoints, for dense matchers, which find their points themselves.

Grey, resized like the pictures of detectors. Nothing is stored of it: the photos are read when they are matched.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from pipeline.describe.keypoints.base import Extractor, Found, Pixels
from pipeline.errors import UsageError
from pipeline.types import PICTURE, GreyPicture, Keypoints, PreparedKeypoints


class PictureExtractor(Extractor):
    """Grey pictures whose sides are multiples of 32 pixels, where they have room for one."""

    kind = PICTURE
    dimension = 0
    multiple = 32

    @classmethod
    def load(cls, checkpoint: Path | None, device: str, *, size: int = 640) -> Self:
        """Make one.

        Args:
            checkpoint: must be None.
            device: not used.
            size: pixels of the longer side.

        Raises:
            UsageError: a checkpoint is given.
        """
        if checkpoint is not None:
            raise UsageError(f"pictures have no weights; leave describe.keypoints.checkpoint={checkpoint} out")
        return cls("", size, 1, {})

    def extract(self, batch: Sequence[PreparedKeypoints]) -> list[Keypoints]:
        """A `GreyPicture` each."""
        none = np.zeros(0, np.float32)
        empty = np.zeros((0, 2), np.float32), np.zeros((0, 0), np.float32), none, none, none
        return [
            GreyPicture(*empty, item.region, np.asarray(cv2.cvtColor(item.pixels, cv2.COLOR_RGB2GRAY), np.uint8))
            for item in batch
        ]

    def detect(self, pictures: Pixels) -> list[Found]:
        """A picture has no keypoints."""
        none = np.zeros(0, np.float32)
        return [Found(np.zeros((0, 2), np.float32), np.zeros((0, 0), np.float32), none) for _ in pictures]
