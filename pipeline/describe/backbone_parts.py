"""A backbone as a row of parts, first to last: what training freezes, slows down or computes only once.

Read by `train-global`. Running the parts one after the other gives the backbone's final map, to the last digit.
"""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from pipeline.describe.backbones import Backbone
from pipeline.describe.resnet import ResNetBackbone
from pipeline.errors import RelookError


def parts_of(backbone: Backbone) -> list[nn.Module]:
    """The parts of a backbone in the order of the data, sharing its weights.

    EfficientNets (stem, stages, head), ResNets (stem, four stages) and ConvNeXts (stem, stages) are divided; any other
    model is one part.

    Raises:
        RelookError: its ReLUs were replaced (SuperGlobal), with which nothing was ever trained.
    """
    model = cast(Any, backbone.model)
    if isinstance(backbone, ResNetBackbone):
        if backbone.has_relup:
            raise RelookError(
                "SuperGlobal has no training of its own: train cvnet_r50 or cvnet_r101, whose weights it is"
            )
        stages = [nn.Sequential(getattr(model, f"layer{stage}"), nn.ReLU()) for stage in range(1, 5)]
        return [nn.Sequential(model.conv1, model.bn1, model.act1, model.maxpool), *stages]
    if all(hasattr(model, name) for name in ("conv_stem", "bn1", "blocks", "conv_head", "bn2")):
        return [nn.Sequential(model.conv_stem, model.bn1), *model.blocks, nn.Sequential(model.conv_head, model.bn2)]
    if all(hasattr(model, name) for name in ("conv1", "bn1", "act1", "maxpool", "layer4")):
        stem = nn.Sequential(model.conv1, model.bn1, model.act1, model.maxpool)
        return [stem, *(getattr(model, f"layer{stage}") for stage in range(1, 5))]
    if all(hasattr(model, name) for name in ("stem", "stages", "norm_pre")):
        return [model.stem, *model.stages, model.norm_pre]
    return [_Whole(backbone)]


class _Whole(nn.Module):
    """A backbone that gives its final map alone."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Any) -> Any:
        return self.backbone(images)[0]
