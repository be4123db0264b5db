"""Pooling of maps of features into vectors.

Used by the heads of describers. GeM: Radenovic, Tolias, Chum, "Fine-tuning CNN image retrieval with no human
annotation", TPAMI 2019, equation 3. GeM+, Regional-GeM, Scale-GeM and ReLUP: Shao et al., "Global Features are All You
Need for Image Retrieval and Reranking", ICCV 2023, section 3.2, with the constants of the official code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

EPSILON = 1e-6


def gem(maps: torch.Tensor, p: float, epsilon: float = EPSILON) -> torch.Tensor:
    """Generalised mean over the positions of [B, C, h, w]: [B, C].

    `p` = 1 is the plain average (also of negative values), larger p moves towards the maximum; for other p values below
    `epsilon` count as it.
    """
    if p == 1:
        return maps.mean(dim=(-2, -1))
    return maps.clamp(min=epsilon).pow(p).mean(dim=(-2, -1)).pow(1 / p)


def gem_plus(maps: torch.Tensor, p: float = 4.6) -> torch.Tensor:
    """GeM+ of [B, C, h, w]: GeM with a larger exponent, fixed after training, and a floor of 1e-8."""
    return gem(maps, p, epsilon=1e-8)


def regional_gem(maps: torch.Tensor, p: float = 2.5, size: int = 5) -> torch.Tensor:
    """Regional-GeM: the mean of a map and of its generalised mean over windows of `size` x `size` (odd), stride 1.

    Args:
        maps: [B, C, h, w] of values not below 0 (others give NaN), with sides above size // 2, as the reflection at the
            border needs. Smaller ones are reflected as far as they go and repeat their edge beyond.
        p: exponent.
        size: of a window.
    """
    margin = size // 2
    reflected = [min(margin, side - 1) for side in (maps.shape[-1], maps.shape[-2])]
    padded = functional.pad(maps, [reflected[0], reflected[0], reflected[1], reflected[1]], mode="reflect")
    rest = [margin - reflected[0], margin - reflected[1]]
    if any(rest):
        padded = functional.pad(padded, [rest[0], rest[0], rest[1], rest[1]], mode="replicate")
    means = functional.avg_pool2d(padded.pow(p), size, stride=1).pow(1 / p)
    return 0.5 * maps + 0.5 * means


def scale_gem(vectors: Sequence[torch.Tensor], p: float = math.inf) -> torch.Tensor:
    """Scale-GeM: one vector from those of several scales.

    Args:
        vectors: one [B, D] per scale.
        p: infinity gives the maximum over scales of the vectors brought to unit length, which is the paper's choice; a
            finite one the generalised mean of their distance to the smallest value of all, which is added again.

    Returns:
        [B, D], not of unit length.
    """
    stacked = torch.stack(list(vectors))
    if math.isinf(p):
        return functional.normalize(stacked, dim=-1).amax(dim=0)
    smallest = stacked.min()
    return (stacked - smallest).pow(p).mean(dim=0).pow(1 / p) + smallest


def relup(values: torch.Tensor, threshold: float = 0.014) -> torch.Tensor:
    """ReLUP: like ReLU, with values cut below `threshold` instead of 0."""
    return values.clamp(min=threshold)
