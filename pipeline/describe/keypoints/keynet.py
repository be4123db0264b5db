"""Key.Net with OriNet and HardNet (ICCV 2019, ECCV 2018, NeurIPS 2017): kornia's networks, weights from local files.

128 values per keypoint, with scale and orientation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from kornia.color import rgb_to_grayscale
from kornia.feature import (
    HardNet,
    KeyNetDetector,
    LAFDescriptor,
    LAFOrienter,
    LocalFeature,
    OriNet,
    get_laf_center,
    get_laf_orientation,
    get_laf_scale,
    laf_is_filled,
)

from pipeline.describe.keypoints.base import Found, Pixels
from pipeline.describe.keypoints.network import NetworkExtractor, array, read_folder

_FILES = ("keynet_pytorch.pth", "OriNet.pth", "checkpoint_liberty_with_aug.pth")


class KeyNetExtractor(NetworkExtractor):
    """Key.Net's keypoints."""

    kind = "keynet"
    dimension = 128
    smallest = 64

    @classmethod
    def load(
        cls, checkpoint: Path | None, device: str, *, size: int = 1024, count: int = 1024, threshold: float = 0.0
    ) -> Self:
        """Make one.

        Args:
            checkpoint: a folder with `keynet_pytorch.pth`, `OriNet.pth` and `checkpoint_liberty_with_aug.pth`.
            device: where the networks run.
            size, count: see `Extractor`.
            threshold: of the response.

        Raises:
            RelookError: the weights are missing or of another network.
        """
        orientation, descriptor = OriNet(pretrained=False), HardNet(pretrained=False)
        detector = KeyNetDetector(
            False, num_features=count, ori_module=LAFOrienter(angle_detector=orientation), score_threshold=threshold
        )
        modules: list[Any] = [detector.model, orientation, descriptor]
        for file, module in zip(read_folder(cls.kind, checkpoint, _FILES), modules, strict=True):
            file.load_into(module)
        network = LocalFeature(detector, LAFDescriptor(descriptor, patch_size=32, grayscale_descriptor=True))
        return cls(network, device, size, count, {"threshold": threshold})

    @torch.inference_mode()
    def detect(self, pictures: Pixels) -> list[Found]:
        """See `Extractor.detect`; one picture at a time, as kornia does."""
        return [self._detect(picture) for picture in rgb_to_grayscale(self.tensor(pictures))]

    def _detect(self, picture: torch.Tensor) -> Found:
        frames, responses, descriptors = self._network(picture[None])
        rows = laf_is_filled(frames)[0]
        frames = frames[:, rows]
        angle = get_laf_orientation(frames).reshape(-1)
        return Found(
            array(get_laf_center(frames)[0]),
            array(descriptors[0, rows]),
            array(responses[0, rows]),
            array(2 * get_laf_scale(frames).reshape(-1)),
            array(-torch.deg2rad(angle)),  # kornia's angles are counter-clockwise
        )
