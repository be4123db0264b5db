"""The part of a describer that learns: its backbone's last parts and its global head, behind the frozen first ones.

Run by `GlobalTask`, copied by the momentum encoder. What is frozen stays in evaluation mode; batch statistics of the
rest are frozen too unless they are to be learnt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pipeline.describe.backbone_parts import parts_of
from pipeline.describe.network import DescriberNetwork
from pipeline.errors import RelookError

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Trunk(nn.Module):
    """Maps of the frozen parts to global descriptors.

    Args:
        parts: of the backbone, those that are trained.
        head: pools the final map.
        learn_statistics: whether batch norms follow the data in training.
        checkpointing: compute each part again in the backward pass instead of keeping what is inside it.
    """

    def __init__(
        self, parts: Sequence[nn.Module], head: nn.Module, learn_statistics: bool = False, checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.head = head
        self._learn_statistics, self._checkpointing = learn_statistics, checkpointing

    def train(self, mode: bool = True) -> Trunk:
        """Frozen statistics stay as they are in training mode too."""
        super().train(mode)
        if not self._learn_statistics:
            for module in self.modules():
                if isinstance(module, _BATCH_NORMS):
                    module.eval()
        return self

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[B, D] of unit length of what the frozen parts gave [B, C, h, w]."""
        return self.describe(self.maps(inputs)[-1])

    def maps(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """What goes into each part, and last the final map."""
        maps = [inputs]
        for part in self.parts:
            if self._checkpointing and self.training:
                maps.append(checkpoint(part, maps[-1], use_reentrant=False))
            else:
                maps.append(part(maps[-1]))
        return maps

    def describe(self, final: torch.Tensor) -> torch.Tensor:
        """[B, D] of unit length of the final map."""
        pooled: torch.Tensor = self.head.pool(final).float()  # type: ignore[operator]
        return functional.normalize(pooled, dim=1)


def divided(
    network: DescriberNetwork, freeze: int, key: str = "train_global.freeze"
) -> tuple[nn.Sequential, list[nn.Module]]:
    """The frozen first parts of a describer's backbone, in evaluation mode, and those that are trained.

    `key` is the setting that says how many are frozen.

    Raises:
        RelookError: it has no so many parts that one is left to be trained.
    """
    parts = parts_of(network.backbone)
    if freeze >= len(parts):
        raise RelookError(
            f"{key} = {freeze}: {network.backbone.architecture} has {len(parts)} parts, and the last one "
            f"has to learn; give at most {len(parts) - 1}"
        )
    frozen = nn.Sequential(*parts[:freeze]).eval().requires_grad_(False)
    for part in parts[freeze:]:
        part.requires_grad_(True)
    return frozen, parts[freeze:]
