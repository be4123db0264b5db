"""DeDoDe (Edstedt et al., 3DV 2024, MIT): kornia's detector and descriptor with the published weights from local files.

256 values per keypoint. The descriptor is B, which needs no other network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from kornia.feature import DeDoDe
from torch.nn import functional

from pipeline.describe.keypoints.base import Found, Pixels
from pipeline.describe.keypoints.network import NetworkExtractor, array, read_folder

_FILES = ("dedode_detector_L_v2.pth", "dedode_descriptor_B.pth")


class DeDoDeExtractor(NetworkExtractor):
    """DeDoDe's keypoints, as many as `count` in every picture that has as many pixels."""

    kind = "dedode"
    dimension = 256
    multiple = 14
    smallest = 56

    @classmethod
    def load(cls, checkpoint: Path | None, device: str, *, size: int = 784, count: int = 1024) -> Self:
        """Make one.

        Args:
            checkpoint: a folder with `dedode_detector_L_v2.pth` and `dedode_descriptor_B.pth`.
            device: where the networks run.
            size, count: see `Extractor`.

        Raises:
            RelookError: the weights are missing or of another network.
        """
        network = DeDoDe("L", "B", torch.float32)
        detector, descriptor = read_folder(cls.kind, checkpoint, _FILES)
        detector.load_into(network.detector)
        descriptor.load_into(network.descriptor)
        return cls(network, device, size, count, {})

    @torch.inference_mode()
    def detect(self, pictures: Pixels) -> list[Found]:
        """See `Extractor.detect`."""
        points, scores, descriptors = self._network(self.tensor(pictures), n=self._count)
        units = functional.normalize(descriptors, dim=-1)
        return [
            Found(array(xy - 0.5), array(values), array(score))
            for xy, values, score in zip(points, units, scores, strict=True)
        ]
