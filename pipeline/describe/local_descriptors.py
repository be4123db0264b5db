"""Local descriptors: which cells of the feature maps are chosen, and where in the picture they lie.

Chosen in `network_pass.py`, projected by the describer. Strength is the L2 norm of a cell, which needs no training
(the usual substitute for trained attention: Noh et al., ICCV 2017, section 3.2), or DELG's attention (Cao et al., ECCV
2020), or what AMES's detector says (`detector.py`), or the cosine to a transformer's class token (Suma et al., ICLR
2026); or all cells are taken as they stand (Tan et al., ICCV 2021, products).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pipeline.describe.local_places import located
from pipeline.types import LocalDescriptors


@dataclass(frozen=True)
class Cells:
    """The n chosen cells of B pictures, strongest first (or row by row, where all are taken).

    Attributes:
        features: [B, n, C] as the network gave them.
        weight: [B, n], their strength.
        xy: [B, n, 2], centres (or corners, see `strongest_cells`) in pixels of the input of their own scale.
        scale: [B, n] int64, which map each came from.
    """

    features: torch.Tensor
    weight: torch.Tensor
    xy: torch.Tensor
    scale: torch.Tensor


def strongest_cells(
    maps: Sequence[torch.Tensor],
    sizes: Sequence[tuple[int, int]],
    count: int,
    weights: Sequence[torch.Tensor] | None = None,
    stride: int | None = None,
) -> Cells:
    """Choose the `count` strongest cells over all maps together (all of them where there are fewer).

    Args:
        maps: one [B, C, h, w] per scale.
        sizes: per scale the (height, width) in pixels of the network's input.
        count: n.
        weights: one [B, h, w] per scale, how strong each cell is; None: its L2 norm.
        stride: pixels; a cell lies at its row and column times this, as in AMES's code for CVNet; None: its centre.
    """
    features, xy, scale = _flat(maps, sizes, stride)
    strength = features.norm(dim=-1) if weights is None else torch.cat([w.flatten(1) for w in weights], dim=1)
    weight, rows = strength.topk(min(count, strength.shape[1]), dim=1)
    chosen = features.gather(1, rows.unsqueeze(-1).expand(-1, -1, features.shape[-1]))
    return Cells(chosen, weight, xy[rows], scale[rows])


def all_cells(maps: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]], stride: int | None = None) -> Cells:
    """Every cell, scale by scale, row by row; see `strongest_cells`."""
    features, xy, scale = _flat(maps, sizes, stride)
    count = len(features)
    return Cells(features, features.norm(dim=-1), xy.expand(count, -1, -1), scale.expand(count, -1))


def to_local_descriptors(
    cells: Cells,
    features: torch.Tensor,
    to_original: Sequence[npt.NDArray[np.float32]],
    scales: Sequence[float],
    threshold: float,
) -> list[LocalDescriptors]:
    """The local descriptors of B pictures, at places in pixels of the originals.

    Args:
        cells: the chosen ones.
        features: [B, n, d], those of the cells after their projection.
        to_original: per picture [S, 4] float32, (sx, sy, dx, dy) from the pixels that each scale read.
        scales: S of them, ascending.
        threshold: cells of less weight are left out; 0: none are.
    """
    descriptors, weight = features.cpu().numpy(), cells.weight.cpu().numpy()
    xy, numbers = cells.xy.cpu().numpy(), cells.scale.cpu().numpy()
    return located(descriptors, weight, xy, numbers, to_original, scales, threshold)


def _flat(
    maps: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]], stride: int | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    features = torch.cat([cells.flatten(2).transpose(1, 2) for cells in maps], dim=1)
    xy = torch.cat([_places(cells, size, stride) for cells, size in zip(maps, sizes, strict=True)])
    numbers = [torch.full((cells.shape[-2] * cells.shape[-1],), number) for number, cells in enumerate(maps)]
    return features, xy, torch.cat(numbers).to(features.device)


def _places(cells: torch.Tensor, size: tuple[int, int], stride: int | None) -> torch.Tensor:
    height, width = cells.shape[-2:]
    rows, columns = (torch.arange(count, device=cells.device, dtype=torch.float32) for count in (height, width))
    if stride is None:
        y, x = (rows + 0.5) * (size[0] / height), (columns + 0.5) * (size[1] / width)
    else:
        y, x = rows * stride, columns * stride
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x.flatten(), grid_y.flatten()], dim=1)
