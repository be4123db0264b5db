"""Momentum contrast with labels: a slowly moving copy of the network, a queue of its descriptors, and the loss on both.

The second half of CVNet-Global's training (Lee et al., CVPR 2022, section 3.2). He et al., "Momentum Contrast for
Unsupervised Visual Representation Learning", CVPR 2020; positives are all descriptors of the queue that have the label.
docs/training.md says where the paper leaves a choice, and which one is made here.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from pipeline.config import ContrastConfig
from pipeline.train.global_descriptor.losses import harden, with_margin
from pipeline.train.loop.distributed import all_reduce_sum

# The label of an empty place in the queue.
_EMPTY = -1
# Share of a step in the moving average of the positives' cosines; as in CurricularFace.
_FOLLOW = 0.01


class MomentumEncoder(nn.Module):
    """The moving average of a module: copy = momentum * copy + (1 - momentum) * module, per step.

    Args:
        module: what is averaged.
        momentum: in [0, 1].
        ramp: start with a smaller momentum: at most n / (n + 9) in step n. Not in the papers.
    """

    def __init__(self, module: nn.Module, momentum: float, ramp: bool = False) -> None:
        super().__init__()
        self.copy = copy.deepcopy(module).eval().requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: torch.Tensor
        self._momentum, self._ramp = momentum, ramp

    def train(self, mode: bool = True) -> MomentumEncoder:
        """The copy is never in training mode."""
        return self

    @torch.no_grad()
    def follow(self, module: nn.Module) -> None:
        """Update the copy after a step of `module`."""
        self.steps += 1
        steps = int(self.steps)
        momentum = min(self._momentum, steps / (steps + 9)) if self._ramp else self._momentum
        for mine, theirs in zip(self.copy.parameters(), module.parameters(), strict=True):
            mine.lerp_(theirs, 1 - momentum)
        for statistic, followed in zip(self.copy.buffers(), module.buffers(), strict=True):
            statistic.copy_(followed)

    @torch.no_grad()
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The output of the copy."""
        result: torch.Tensor = self.copy(inputs)
        return result


class DescriptorQueue(nn.Module):
    """The last descriptors of the momentum encoder with their labels, oldest overwritten first.

    Attributes:
        descriptors: [size, D] float32 of unit length.
        labels: [size] int64, -1 where the queue is empty.
    """

    def __init__(self, size: int, dimension: int) -> None:
        super().__init__()
        self.register_buffer("descriptors", torch.zeros(size, dimension))
        self.register_buffer("labels", torch.full((size,), _EMPTY))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self.descriptors: torch.Tensor
        self.labels: torch.Tensor
        self.place: torch.Tensor

    @torch.no_grad()
    def put(self, descriptors: torch.Tensor, labels: torch.Tensor) -> None:
        """Add descriptors [B, D] and labels [B]; only the last `size` of them if there are more."""
        size = len(self.labels)
        descriptors, labels = descriptors[-size:], labels[-size:]
        rows = (self.place + torch.arange(len(labels), device=labels.device)) % size
        self.descriptors[rows] = descriptors.to(self.descriptors.dtype)
        self.labels[rows] = labels
        self.place.copy_((self.place + len(labels)) % size)


class MomentumContrast(nn.Module):
    """Contrastive loss between descriptors and the queue; positives are all entries with the same label.

    Per positive: -log(exp(a / tau) / (exp(a / tau) + sum over negatives of exp(b / tau))), with a the positive's cosine
    with its angular margin and b the negatives', hardened as in CurricularFace where they are above the mean a of their
    descriptor; the mean over the positives of each descriptor, then over those descriptors that have any.
    """

    def __init__(self, settings: ContrastConfig, dimension: int) -> None:
        super().__init__()
        self.queue = DescriptorQueue(settings.queue, dimension)
        self.register_buffer("t", torch.zeros(()))
        self.t: torch.Tensor
        self._temperature, self._margin = settings.temperature, settings.margin

    def forward(self, descriptors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Descriptors [B, D] of unit length, labels [B]; a scalar, 0 where the queue has no positive."""
        cosines = (descriptors @ self.queue.descriptors.T).float()
        same = labels.unsqueeze(1) == self.queue.labels
        count = same.sum(dim=1)
        if self.training:
            self._follow(cosines, same)
        margined = with_margin(cosines, self._margin)
        limit = (margined * same).sum(dim=1) / count.clamp(min=1)
        others = harden(cosines, limit.detach().unsqueeze(1), self.t) / self._temperature
        hidden = same | (self.queue.labels == _EMPTY)
        rest = others.masked_fill(hidden, float("-inf")).logsumexp(dim=1, keepdim=True)
        positive = margined / self._temperature
        losses = (torch.logaddexp(positive, rest) - positive) * same
        return (losses.sum(dim=1) / count.clamp(min=1)).sum() / (count > 0).sum().clamp(min=1)

    def _follow(self, cosines: torch.Tensor, same: torch.Tensor) -> None:
        there = all_reduce_sum(same.sum())
        mean = all_reduce_sum((cosines * same).sum()) / there.clamp(min=1)
        self.t.lerp_(mean, _FOLLOW * float(there > 0))
