"""What extractors with a network share: its device, pictures as tensors, and the files of their published weights.

Between `base.py` and the files of the kinds. Only local files are read: nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.checkpoints import Checkpoint, hash_weights, read_checkpoint
from pipeline.describe.keypoints.base import Extractor, Pixels
from pipeline.errors import RelookError
from pipeline.types import FloatArray


class NetworkExtractor(Extractor):
    """An extractor with a network.

    Args:
        network: with its weights.
        device: where it runs.
        size, count, settings: see `Extractor`.
    """

    def __init__(self, network: nn.Module, device: str, size: int, count: int, settings: Mapping[str, Any]) -> None:
        super().__init__(hash_weights(network.state_dict()), size, count, settings)
        self._device = torch.device(device)
        self._network: Any = network.eval().to(self._device)

    def tensor(self, pictures: Pixels) -> torch.Tensor:
        """Pictures [B, h, w, c] uint8 as [B, c, h, w] float32 in [0, 1] on the device."""
        return torch.from_numpy(pictures).to(self._device).permute(0, 3, 1, 2).float() / 255


def array(values: torch.Tensor) -> FloatArray:
    """A tensor as a float32 array in the memory of the CPU."""
    return np.asarray(values.detach().float().cpu().numpy(), dtype=np.float32)


def read_released(kind: str, checkpoint: Path | None, released: str) -> Checkpoint:
    """A published file of weights.

    Args:
        kind: of the extractor, for messages.
        checkpoint: the file.
        released: what its authors call it.

    Raises:
        RelookError: there is none, or it holds no weights.
    """
    if checkpoint is None:
        raise RelookError(
            f"keypoints of {kind} need their weights: set describe.keypoints.checkpoint to the file {released}"
        )
    return read_checkpoint(checkpoint)


def read_folder(kind: str, folder: Path | None, released: tuple[str, ...]) -> list[Checkpoint]:
    """Published files of weights that lie in one folder under their own names.

    Raises:
        RelookError: no folder is given, or one of them is missing.
    """
    names = ", ".join(released)
    if folder is None or not folder.is_dir():
        given = "" if folder is None else f"; {folder} is no folder"
        raise RelookError(
            f"keypoints of {kind} need their weights: set describe.keypoints.checkpoint to a folder with {names}{given}"
        )
    return [read_checkpoint(folder / name) for name in released]
