"""Pooling of a map of features into one vector.

Used by the describer on a backbone's final map.
GeM: Radenovic, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019, equation 3.
"""

from __future__ import annotations

import torch

EPSILON = 1e-6


def gem(maps: torch.Tensor, p: float) -> torch.Tensor:
    """Generalised mean over the positions of [B, C, h, w]: [B, C].

    `p` = 1 is the plain average (also of negative values), larger p moves towards the maximum; for other p values below
    `EPSILON` count as it.
    """
    if p == 1:
        return maps.mean(dim=(-2, -1))
    return maps.clamp(min=EPSILON).pow(p).mean(dim=(-2, -1)).pow(1 / p)
