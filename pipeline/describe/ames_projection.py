"""AMES's projection of local descriptors, applied when extracting: 128 values a descriptor, or as many bits.

An alternative to the fitted PCA for indexes that AMES re-ranks: `rerank.ames` then reads what it would have computed
again for every candidate. Suma et al., ECCV 2024, section 3.4, with the names of the official checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from pipeline.checkpoints import hash_weights, read_checkpoint
from pipeline.errors import RelookError
from pipeline.types import FloatArray

_PREFIX = "remap_local."
_BITS = "remap_local.0.W"
_FLOATS = ("remap_local.0.weight", "remap_local.0.bias", "remap_local.1.weight", "remap_local.1.bias")


class AMESProjection:
    """Projects descriptors as the AMES checkpoint does that it comes from.

    Args:
        weights: the tensors of `_FLOATS` (a linear layer and a layer norm), or that of `_BITS` alone.
    """

    def __init__(self, weights: Mapping[str, torch.Tensor]) -> None:
        self._weights = dict(weights)

    @classmethod
    def read(cls, path: Path) -> AMESProjection:
        """From a checkpoint of AMES, relook's or official. Raises RelookError when it is none."""
        state = read_checkpoint(path).state
        keys = (_BITS,) if _BITS in state else _FLOATS
        if any(key not in state for key in keys):
            raise RelookError(f"{path}: not a checkpoint of AMES (describe.locals.projection): no {keys[0]}")
        return cls({key: state[key] for key in keys})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray]) -> AMESProjection | None:
        """The inverse of `arrays`; None where there is none among them."""
        weights = {key: torch.from_numpy(value) for key, value in arrays.items() if key.startswith(_PREFIX)}
        return cls(weights) if weights else None

    @property
    def binary(self) -> bool:
        """Whether it gives bits."""
        return _BITS in self._weights

    @property
    def dimension(self) -> int:
        """Values per descriptor."""
        return self._weights[_BITS].shape[1] if self.binary else self._weights[_FLOATS[0]].shape[0]

    @property
    def width(self) -> int:
        """Values per descriptor that it takes."""
        return self._weights[_BITS].shape[0] if self.binary else self._weights[_FLOATS[0]].shape[1]

    @property
    def card(self) -> dict[str, str]:
        """What the model card says of it."""
        return {"kind": "ames_bits" if self.binary else "ames", "weights": hash_weights(self._weights)}

    def arrays(self) -> dict[str, FloatArray]:
        """Named arrays for a file."""
        return {key: np.ascontiguousarray(value.float().numpy()) for key, value in self._weights.items()}

    def apply(self, features: torch.Tensor) -> torch.Tensor:
        """Unit descriptors [..., width] to [..., dimension]: +1 and -1 for bits, else the values of the layer norm."""
        weights = {key: value.to(features.device) for key, value in self._weights.items()}
        if self.binary:
            signs = torch.sign(features @ weights[_BITS])
            return torch.where(signs == 0, torch.ones_like(signs), signs)  # a bit has no third value
        linear = functional.linear(features, weights[_FLOATS[0]], weights[_FLOATS[1]])
        return functional.layer_norm(linear, linear.shape[-1:], weights[_FLOATS[2]], weights[_FLOATS[3]])
