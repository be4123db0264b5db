"""Losses on global descriptors and labels: softmax over classes with margins.

Used by `train-global`. Softmax, ArcFace and its sub-centre form are pytorch-metric-learning's; CurricularFace (Huang
et al., CVPR 2020), which no library has, is here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pytorch_metric_learning import losses as library
from torch import nn
from torch.nn import functional

from pipeline.config import ClassificationConfig
from pipeline.train.loop.distributed import all_reduce_sum

# Cosines are kept so far from 1, where the sine has no gradient.
_EDGE = 1e-7
# Length of the noise that is added to the sub-centres of one label.
_NOISE = 0.1


def classification(settings: ClassificationConfig, classes: int, dimension: int) -> nn.Module:
    """The loss that the settings name: descriptors [B, D] of unit length and labels [B] int64 to a scalar.

    Args:
        settings: name, scale and margin.
        classes: number of labels; each has a trainable prototype.
        dimension: D.
    """
    return _LOSSES[settings.name](settings, classes, dimension)


@torch.no_grad()
def set_prototypes(loss: nn.Module, directions: torch.Tensor) -> None:
    """Initialise a loss of `classification` with prototypes [classes, D]; a label whose row is zero keeps its own.

    The sub-centres of a label start from its prototype with a little noise.
    """
    if isinstance(loss, CurricularFace):
        there = directions.norm(dim=1) > 0
        loss.prototypes[there] = directions[there].to(loss.prototypes)
        return
    weight: torch.Tensor = loss.W  # type: ignore[assignment]  # the library's [D, classes * centres]
    centres = weight.shape[1] // len(directions)
    repeated = directions.repeat_interleave(centres, dim=0)
    there = repeated.norm(dim=1) > 0
    if centres > 1:
        repeated = repeated + _NOISE * torch.randn_like(repeated) * repeated.shape[1] ** -0.5
    weight[:, there] = repeated[there].T.to(weight)


class CurricularFace(nn.Module):
    """Softmax on cosines with an angular margin; the weight of hard negatives grows during training.

    A negative that is nearer than the positive with its margin has its cosine c replaced by c * (t + c), where t is the
    moving average of the positives' cosines (equations 4 to 6): while t is small hard negatives are weakened, later
    they are strengthened.

    Args:
        classes, dimension: of the prototypes.
        scale: s, factor on the cosines before the softmax.
        margin: m in radians, added to the angle of the positive.
        momentum: share of a step in t. The paper writes 0.99, its authors' code has 0.01, which is what works.
    """

    def __init__(self, classes: int, dimension: int, scale: float, margin: float, momentum: float = 0.01) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(classes, dimension) * dimension**-0.5)
        self.register_buffer("t", torch.zeros(()))
        self.t: torch.Tensor
        self._scale, self._margin, self._momentum = scale, margin, momentum

    def forward(self, descriptors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """See `classification`."""
        cosines = (descriptors @ functional.normalize(self.prototypes, dim=1).T).float()
        positive = cosines.gather(1, labels.unsqueeze(1))
        if self.training:
            self._follow(positive)
        margined = with_margin(positive, self._margin)
        logits = harden(cosines, margined, self.t).scatter(1, labels.unsqueeze(1), margined)
        return functional.cross_entropy(self._scale * logits, labels)

    def _follow(self, positive: torch.Tensor) -> None:
        mean = all_reduce_sum(positive.sum()) / all_reduce_sum(
            torch.tensor(float(len(positive)), device=positive.device)
        )
        self.t.lerp_(mean, self._momentum)


def with_margin(cosines: torch.Tensor, margin: float) -> torch.Tensor:
    """cos(angle + margin) of cosines of any shape; beyond pi the line that goes on from there (ArcFace's rule)."""
    clamped = cosines.clamp(-1 + _EDGE, 1 - _EDGE)
    turned = clamped * math.cos(margin) - (1 - clamped**2).sqrt() * math.sin(margin)
    return torch.where(cosines > math.cos(math.pi - margin), turned, cosines - math.sin(math.pi - margin) * margin)


def harden(cosines: torch.Tensor, limit: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """CurricularFace's c * (t + c) where a negative's cosine c is above `limit`, the positive with its margin."""
    return torch.where(cosines > limit, cosines * (t + cosines), cosines)


def _softmax(settings: ClassificationConfig, classes: int, dimension: int) -> nn.Module:
    loss: nn.Module = library.NormalizedSoftmaxLoss(classes, dimension, temperature=1 / settings.scale)
    return loss


def _arcface(settings: ClassificationConfig, classes: int, dimension: int) -> nn.Module:
    loss: nn.Module = library.ArcFaceLoss(
        classes, dimension, margin=math.degrees(settings.margin), scale=settings.scale
    )
    return loss


def _subcenter(settings: ClassificationConfig, classes: int, dimension: int) -> nn.Module:
    loss: nn.Module = library.SubCenterArcFaceLoss(
        num_classes=classes,
        embedding_size=dimension,
        margin=math.degrees(settings.margin),
        scale=settings.scale,
        sub_centers=settings.centres,
    )
    return loss


def _curricular(settings: ClassificationConfig, classes: int, dimension: int) -> nn.Module:
    return CurricularFace(classes, dimension, settings.scale, settings.margin, settings.momentum)


_LOSSES: dict[str, Callable[[ClassificationConfig, int, int], nn.Module]] = {
    "softmax": _softmax,
    "arcface": _arcface,
    "subcenter_arcface": _subcenter,
    "curricularface": _curricular,
}
