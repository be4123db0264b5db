"""The strongest cells of feature maps of several sizes: where the local descriptors of a picture come from.

Used by the describer. Strength is the L2 norm of a cell, which needs no training (the usual stand-in for DELF's learnt
attention: Noh et al., ICCV 2017, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Cells:
    """The n chosen cells of B pictures, strongest first.

    Attributes:
        features: [B, n, C] as the network gave them.
        weight: [B, n], their L2 norms.
        xy: [B, n, 2], centres in pixels of the input of their own scale.
        scale: [B, n] int64, which map each came from.
    """

    features: torch.Tensor
    weight: torch.Tensor
    xy: torch.Tensor
    scale: torch.Tensor


def strongest_cells(maps: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]], count: int) -> Cells:
    """Choose the `count` cells of largest norm over all maps together (all of them where there are fewer).

    Args:
        maps: one [B, C, h, w] per scale.
        sizes: per scale the (height, width) in pixels of the network's input.
        count: n.
    """
    features = torch.cat([cells.flatten(2).transpose(1, 2) for cells in maps], dim=1)
    xy = torch.cat([_centres(cells, size) for cells, size in zip(maps, sizes, strict=True)])
    scale = torch.cat(
        [torch.full((cells.shape[-2] * cells.shape[-1],), number) for number, cells in enumerate(maps)]
    ).to(features.device)
    norms = features.norm(dim=-1)
    weight, rows = norms.topk(min(count, norms.shape[1]), dim=1)
    chosen = features.gather(1, rows.unsqueeze(-1).expand(-1, -1, features.shape[-1]))
    return Cells(chosen, weight, xy[rows], scale[rows])


def _centres(cells: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    height, width = cells.shape[-2:]
    y = (torch.arange(height, device=cells.device) + 0.5) * (size[0] / height)
    x = (torch.arange(width, device=cells.device) + 0.5) * (size[1] / width)
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x.flatten(), grid_y.flatten()], dim=1)
