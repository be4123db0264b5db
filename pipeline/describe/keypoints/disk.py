"""DISK (Tyszkiewicz et al., NeurIPS 2020, Apache-2.0): kornia's network with the published weights from a local file.

128 values per keypoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from kornia.feature import DISK

from pipeline.describe.keypoints.base import Found, Pixels
from pipeline.describe.keypoints.network import NetworkExtractor, array, read_released


class DISKExtractor(NetworkExtractor):
    """DISK's keypoints."""

    kind = "disk"
    dimension = 128
    multiple = 16
    smallest = 32

    @classmethod
    def load(
        cls, checkpoint: Path | None, device: str, *, size: int = 1024, count: int = 1024, threshold: float = 0.0
    ) -> Self:
        """Make one.

        Args:
            checkpoint: `depth-save.pth` or `epipolar-save.pth` of its authors.
            device: where the network runs.
            size, count: see `Extractor`.
            threshold: of the heat map, which has no upper limit.

        Raises:
            RelookError: the weights are missing or of another network.
        """
        network = DISK()
        read_released(cls.kind, checkpoint, "depth-save.pth").load_into(network)
        return cls(network, device, size, count, {"threshold": threshold})

    @torch.inference_mode()
    def detect(self, pictures: Pixels) -> list[Found]:
        """See `Extractor.detect`."""
        found = self._network(
            self.tensor(pictures), n=self._count, score_threshold=float(self.card.settings["threshold"])
        )
        return [Found(array(one.keypoints), array(one.descriptors), array(one.detection_scores)) for one in found]
