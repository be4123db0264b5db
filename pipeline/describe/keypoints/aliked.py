"""ALIKED (Zhao et al., IEEE TIM 2023, BSD-3-Clause): kornia's network with the published weights from a local file.

Sub-pixel keypoints and 128 values each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from kornia.feature import ALIKED

from pipeline.describe.keypoints.base import Found, Pixels
from pipeline.describe.keypoints.network import NetworkExtractor, array, read_released
from pipeline.errors import unknown_name

_MODELS = ("aliked-n16", "aliked-n16rot", "aliked-n32")


class ALIKEDExtractor(NetworkExtractor):
    """ALIKED's keypoints."""

    kind = "aliked"
    dimension = 128
    smallest = 32

    @classmethod
    def load(
        cls,
        checkpoint: Path | None,
        device: str,
        *,
        size: int = 1024,
        count: int = 1024,
        threshold: float = 0.2,
        model: str = "aliked-n16",
    ) -> Self:
        """Make one.

        Args:
            checkpoint: `MODEL.pth` of its authors.
            device: where the network runs.
            size, count: see `Extractor`.
            threshold: of the score, in [0, 1]; 0: the `count` strongest, whatever their scores.
            model: which of the published networks.

        Raises:
            UsageError: the model is unknown.
            RelookError: the weights are missing or of another network.
        """
        if model not in _MODELS:
            raise unknown_name("model of keypoints aliked", model, _MODELS)
        network = ALIKED(model, max_num_keypoints=count, detection_threshold=threshold)
        read_released(cls.kind, checkpoint, f"{model}.pth").load_into(network)
        return cls(network, device, size, count, {"threshold": threshold, "model": model})

    @torch.inference_mode()
    def detect(self, pictures: Pixels) -> list[Found]:
        """See `Extractor.detect`."""
        return [
            Found(array(one.keypoints), array(one.descriptors), array(one.keypoint_scores))
            for one in self._network(self.tensor(pictures))
        ]
