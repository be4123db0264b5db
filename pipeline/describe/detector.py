"""AMES's detector: which cells of a map are worth keeping, and what descriptor each of them has.

An alternative to the strongest cells by norm, run by `network_pass.py` on the map that local descriptors come from. Its
weights are a file of their own (the authors', or of `train-detector`), and an index keeps them beside its projections.
Suma et al., ECCV 2024, section 5, with the names of the official checkpoints; the attention is DELG's (Cao et al., ECCV
2020, equation 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.checkpoints import Checkpoint, hash_weights, read_checkpoint, write_checkpoint
from pipeline.errors import RelookError
from pipeline.types import FloatArray

# What the header of relook's own file says that it is.
KIND = "detector"
# Before the names of its arrays in an index.
_PREFIX = "detector."
_FIRST = "conv1.weight"
# Counted in training; describes nothing, and other programs' files may do without it.
_COUNT = "bn.num_batches_tracked"
# As the official code; far below float32's usual one.
_EPS = 1e-15

Descriptor = Literal["detector", "backbone"]


class Detector(nn.Module):
    """Two 1x1 convolutions with a batch norm in between.

    Args:
        channels: C of the map, and values of the descriptors.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1)
        self.bn = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, 1, 1)

    @classmethod
    def read(cls, path: Path) -> Detector:
        """From a checkpoint, relook's or official, in evaluation mode. Raises RelookError when it is none."""
        file = read_checkpoint(path)
        if not is_detector(file.state):
            raise RelookError(f"{path}: not a checkpoint of AMES's detector (describe.locals.detector): no {_FIRST}")
        return cls._loaded(path, file.state)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray]) -> Detector | None:
        """The inverse of `arrays`; None where there is none among them."""
        state = {
            key.removeprefix(_PREFIX): torch.from_numpy(value)
            for key, value in arrays.items()
            if key.startswith(_PREFIX)
        }
        return cls._loaded(Path("the index's fitted projections"), state) if state else None

    @classmethod
    def random(cls, channels: int) -> Detector:
        """One that was never trained, drawn from seed 0."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return cls(channels).eval().requires_grad_(False)

    def save(self, path: Path, **provenance: Any) -> None:
        """Write relook's own file, which `read` reads; `provenance` are plain values that say how it was made."""
        write_checkpoint(path, self.state_dict(), {"kind": KIND, "name": KIND, **provenance})

    @property
    def channels(self) -> int:
        """C of the maps that it takes."""
        return self.conv1.in_channels

    @property
    def card(self) -> str:
        """What the model card says of it: "sha256:..." of its tensors."""
        return hash_weights(self._tensors())

    def arrays(self) -> dict[str, FloatArray]:
        """Named arrays for a file."""
        return {f"{_PREFIX}{key}": np.ascontiguousarray(value.cpu().numpy()) for key, value in self._tensors().items()}

    def forward(self, maps: torch.Tensor, descriptor: Descriptor = "detector") -> tuple[torch.Tensor, torch.Tensor]:
        """Maps [B, C, h, w] to unit descriptors [B, C, h, w] and weights [B, h, w], above 0.

        A descriptor is the inner layer's output before its ReLU, or where `descriptor` is "backbone" the map's cell.
        """
        inner = self.bn(self.conv1(maps))
        weights = functional.softplus(self.conv2(torch.relu(inner)))[:, 0]
        return functional.normalize(inner if descriptor == "detector" else maps, dim=1, eps=_EPS), weights

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {key: value for key, value in self.state_dict().items() if key != _COUNT}

    @classmethod
    def _loaded(cls, path: Path, state: Mapping[str, torch.Tensor]) -> Detector:
        detector = cls(state[_FIRST].shape[1] if _FIRST in state else 1)
        given = {_COUNT: torch.tensor(0), **state}
        Checkpoint(path, given).load_into(detector)
        return detector.eval().requires_grad_(False)


def is_detector(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether tensors are a detector's, by their keys."""
    return _FIRST in state and state[_FIRST].ndim == 4 and {"bn.running_mean", "conv2.weight"} <= state.keys()
