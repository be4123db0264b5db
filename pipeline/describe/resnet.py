"""The ResNets of CVNet, SuperGlobal, DELG and the product network, as a source of maps.

timm's ResNet-50 and 101, whose stride lies on the 3x3 convolution as in all of these papers' code, with two things that
no library has: maps before a stage's last ReLU (CVNet-Rerank, AMES), and ReLUP in chosen places (SuperGlobal).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import timm
import torch
from torch import nn

from pipeline.describe.backbones import Backbone, Tap
from pipeline.describe.pooling import relup
from pipeline.errors import RelookError

STAGES = 4


class ReLUP(nn.Module):
    """See `pooling.relup`."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return relup(values)


class ResNetBackbone(Backbone):
    """A ResNet whose stages can be tapped before or after their last ReLU; stages count from 1 (stem: 0)."""

    def __init__(self, architecture: str, weights: str = "", learned_p: float | None = None) -> None:
        """Build it with random weights. `architecture`: "resnet50" or "resnet101"."""
        super().__init__(timm.create_model(architecture, num_classes=0), architecture, weights, learned_p)
        self.multiple = 1
        self._relup_after: set[int] = set()
        # The last ReLU of each stage is done in `forward`, so that a tap can see the map before it.
        for stage in range(1, STAGES + 1):
            _blocks(self.model, stage)[-1].act3 = nn.Identity()

    @property
    def has_relup(self) -> bool:
        """Whether ReLUs were replaced."""
        return any(isinstance(module, ReLUP) for module in self.modules()) or bool(self._relup_after)

    def use_relup(self, *, inside: bool, outside: bool) -> None:
        """Replace ReLUs.

        Args:
            inside: the two inner ReLUs of the blocks of stage 1.
            outside: the ReLU at the end of every block of stages 1 to 3.
        """
        for stage in range(1, STAGES):
            blocks = _blocks(self.model, stage)
            if outside:
                for block in blocks[:-1]:
                    block.act3 = ReLUP()
                self._relup_after.add(stage)
            if inside and stage == 1:
                for block in blocks:
                    block.act1, block.act2 = ReLUP(), ReLUP()

    def forward(self, images: torch.Tensor, taps: Sequence[Tap] = ()) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """See `Backbone.forward`; maps of [B, C, H / 2^(stage + 1), W / 2^(stage + 1)]."""
        model = cast(Any, self.model)
        maps = model.act1(model.bn1(model.conv1(images)))
        seen = {Tap(0): maps}
        maps = model.maxpool(maps)
        for stage in range(1, STAGES + 1):
            before = getattr(model, f"layer{stage}")(maps)
            maps = relup(before) if stage in self._relup_after else torch.relu(before)
            seen[Tap(stage, True)], seen[Tap(stage)] = before, maps
        return maps, [seen[Tap(tap.stage % self.stages, tap.pre_relu)] for tap in taps]

    def with_class_token(
        self, images: torch.Tensor, taps: Sequence[Tap] = ()
    ) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """See `Backbone.with_class_token`: a ResNet has none."""
        raise RelookError(
            f"kind = class_token (describe.globals, describe.locals): {self.architecture} has no class token"
        )

    def has_pre_relu(self, tap: Tap | None) -> bool:
        """Every stage but the stem."""
        return tap is not None and tap.stage % self.stages > 0


def _blocks(model: nn.Module, stage: int) -> list[Any]:
    return list(getattr(model, f"layer{stage}"))
