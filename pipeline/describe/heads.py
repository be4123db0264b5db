"""The heads of describers: what turns a backbone's maps into a global descriptor, attention, and maps to compare.

Small modules with the weights that papers' checkpoints hold beside the backbone; the describer decides which a model
has. CVNet: Lee et al., CVPR 2022. DELG: Cao, Araujo, Sim, "Unifying Deep Local and Global Features for Image Search",
ECCV 2020, section 3. SuperGlobal: Shao et al., ICCV 2023, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from pipeline.config import SuperGlobalModulesConfig
from pipeline.describe.pooling import gem, gem_plus, regional_gem, scale_gem


class GlobalHead(nn.Module):
    """Pools a final map and combines the scales.

    Attributes:
        p: [1] float32, the exponent of GeM; papers learn it.
        fc: of the pooled vector of each scale; None: there is none.
        adapted: of the whole descriptor, after its scales are combined, as `relook adapt` learns it; None: none.

    Args:
        p: exponent of GeM.
        projection: of the pooled vector; None: there is none.
        modules: SuperGlobal's pooling; None: plain GeM.
    """

    def __init__(self, p: float, projection: nn.Linear | None, modules: SuperGlobalModulesConfig | None) -> None:
        super().__init__()
        self.register_buffer("p", torch.tensor([float(p)]))
        self.p: torch.Tensor
        self.fc = projection
        self.adapted: nn.Linear | None = None
        self.modules_used = modules

    def pool(self, maps: torch.Tensor) -> torch.Tensor:
        """One scale: maps [B, C, h, w] to vectors [B, D], not of unit length.

        SuperGlobal gives the pooled vector unit length before the projection, CVNet does not.
        """
        used, p = self.modules_used, float(self.p)
        if used is None:
            pooled = gem(maps, p)
        else:
            maps = regional_gem(maps) if used.rgem else maps
            pooled = functional.normalize(gem_plus(maps) if used.gemp else gem(maps, p), dim=1)
        return pooled if self.fc is None else self.fc(pooled)

    def combine(self, vectors: Sequence[torch.Tensor]) -> torch.Tensor:
        """All scales: vectors [B, D] each to one [B, D] of unit length."""
        descriptor = functional.normalize(self.join(vectors), dim=1)
        if self.adapted is None:
            return descriptor
        with torch.autocast(descriptor.device.type, enabled=False):  # a product of bfloat16 would be a coarse one
            return functional.normalize(self.adapted(descriptor.float()), dim=1)

    def join(self, vectors: Sequence[torch.Tensor]) -> torch.Tensor:
        """`combine` before it gives unit length.

        The mean is of unit vectors; SuperGlobal's code with Scale-GeM switched off takes that of the vectors as they
        are.
        """
        used = self.modules_used
        if used is not None and used.sgem:
            return scale_gem(vectors)
        stacked = torch.stack(list(vectors))
        return (stacked if used is not None else functional.normalize(stacked, dim=-1)).mean(dim=0)


class AttentionHead(nn.Module):
    """How much each cell of a map matters: DELG's two 1x1 convolutions (equation 6).

    Args:
        channels: of the map.
        hidden: of the inner layer.
    """

    def __init__(self, channels: int = 1024, hidden: int = 512) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 1)
        self.bn = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, 1, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, h, w] to attention [B, h, w], at least 0."""
        return functional.softplus(self.conv2(torch.relu(self.bn(self.conv1(maps)))))[:, 0]


class MapsHead(nn.Module):
    """CVNet-Rerank's maps of one image: one map, resized to several levels, each projected by its own convolution.

    Args:
        levels: shares of the map's cells; sides are multiplied by the square root and rounded half to even.
        channels, dimension: of the map and of the projected ones; no projection where `dimension` is None.
    """

    def __init__(self, levels: Sequence[float], channels: int, dimension: int | None) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.conv2ds = nn.ModuleList(
            [nn.Conv2d(channels, dimension, 3, padding=1, bias=False) for _ in self.levels] if dimension else []
        )

    def forward(self, maps: torch.Tensor) -> list[torch.Tensor]:
        """Maps [B, C, h, w] to one [B, C', h * sqrt(level), w * sqrt(level)] per level; sides are at least 1."""
        height, width = maps.shape[-2:]
        result = []
        for number, level in enumerate(self.levels):
            size = max(1, round(height * level**0.5)), max(1, round(width * level**0.5))
            resized = functional.interpolate(maps, size, mode="bilinear", align_corners=True)
            result.append(self.conv2ds[number](resized) if self.conv2ds else resized)
        return result
