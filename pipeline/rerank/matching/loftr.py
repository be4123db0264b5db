"""The matcher `loftr`: LoFTR (Sun, Shen, Wang, Bao, Zhou, CVPR 2021, Apache-2.0), kornia's network.

Dense: it reads the pixels of both images (`dense.py`). The weights are the authors'.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Self

import torch
from kornia.feature import LoFTR
from kornia.feature.loftr.loftr import default_cfg

from pipeline.rerank.matching.dense import DenseMatcher, Points, released_weights

# A part of the names of files whose positions are coded as the paper has them; the other files' authors had a slip.
_CORRECTED = "_new"


class LoFTRMatcher(DenseMatcher):
    """Matches cells of 8 x 8 pixels by transformers over both pictures, and refines the second one's point."""

    name = "loftr"

    @classmethod
    def load(
        cls,
        features: str,
        checkpoint: str | Path | None = None,
        device: str = "cpu",
        threshold: float = 0.2,
        precision: str = "float32",
    ) -> Self:
        """Read an official file, such as `loftr_outdoor.ckpt`, or `indoor_ds_new.ckpt`, which its name tells.

        Raises:
            RelookError: there is no file, or it is of another network.
        """
        file = released_weights(cls.name, checkpoint, "loftr_outdoor.ckpt").renamed("matcher.", "")
        settings: dict[str, Any] = copy.deepcopy(default_cfg)
        settings["coarse"]["temp_bug_fix"] = _CORRECTED in file.path.stem
        settings["match_coarse"]["thr"] = threshold
        network = LoFTR(None, settings)
        file.load_into(network)
        return cls(network, threshold, device, precision)

    def begin(self, picture: torch.Tensor) -> dict[str, torch.Tensor]:
        """See `DenseMatcher.begin`."""
        features: dict[str, torch.Tensor] = self.network.extract_features(picture)
        return features

    def compare(self, begun: dict[str, torch.Tensor], picture: torch.Tensor) -> Points:
        """See `DenseMatcher.compare`. In the official frame the centre of the first pixel is (0.5, 0.5)."""
        found = self.network({"features0": begun, "image1": picture})
        return Points(found["keypoints0"] - 0.5, found["keypoints1"] - 0.5, found["confidence"])
