"""The part of a describer that is trained: the backbone's last parts and the global head, after the frozen first parts.

Run by `GlobalTask`, copied by the momentum encoder. What is frozen stays in evaluation mode; the batch statistics of
the rest are frozen too unless `batch_norm` says otherwise.
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
        """The output of the frozen parts [B, C, h, w] to descriptors [B, D] of unit length."""
        return self.describe(self.maps(inputs)[-1])

    def maps(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """The input of each part, then the final map."""
        maps = [inputs]
        for part in self.parts:
            if self._checkpointing and self.training:
                maps.append(checkpoint(part, maps[-1], use_reentrant=False))
            else:
                maps.append(part(maps[-1]))
        return maps

    def describe(self, final: torch.Tensor) -> torch.Tensor:
        """The final map [B, C, h, w] to descriptors [B, D] of unit length."""
        pooled: torch.Tensor = self.head.pool(final).float()  # type: ignore[operator]
        return functional.normalize(pooled, dim=1)


def split_backbone(
    network: DescriberNetwork, freeze: int, key: str = "train_global.freeze"
) -> tuple[nn.Sequential, list[nn.Module]]:
    """The frozen first parts of a describer's backbone, in evaluation mode, and the trained rest.

    Args:
        network: its backbone is split.
        freeze: how many parts are frozen.
        key: the name of this setting, for errors.

    Raises:
        RelookError: no part is left to be trained.
    """
    parts = parts_of(network.backbone)
    if freeze >= len(parts):
        raise RelookError(
            f"{key} = {freeze}: {network.backbone.architecture} has {len(parts)} parts, and the last one "
            f"must be trained; give at most {len(parts) - 1}"
        )
    frozen = nn.Sequential(*parts[:freeze]).eval().requires_grad_(False)
    for part in parts[freeze:]:
        part.requires_grad_(True)
    return frozen, parts[freeze:]
