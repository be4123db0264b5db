"""Optimizer, schedule and the moving average of the weights, as the configuration says.

Used by the loop. Both optimizers and the way rates change are torch's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pipeline.config import LoopConfig
from pipeline.train.loop.task import Task


def make_optimizer(task: Task, settings: LoopConfig) -> torch.optim.Optimizer:
    """The optimizer of a task; a group with `lr_scale` has that multiple of the rate."""
    groups = task.groups(settings.weight_decay)
    for group in groups:
        group["lr"] = settings.learning_rate * group.pop("lr_scale", 1.0)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: LoopConfig, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up over a part of all `steps`, then half a cosine or a line down to zero, or nothing."""
    rising = round(steps * settings.warmup)

    def rate(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        done = (step - rising) / max(1, steps - rising)
        if settings.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        return 1 - done if settings.schedule == "linear" else 1.0

    return torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


class Average:
    """The moving average of what a module learns; what else it holds is taken as it stands.

    Every process keeps its own, all alike: it costs little, and nothing has to be sent.

    Args:
        module: whose parameters that ask for gradients are averaged.
        decay: each step moves the average by 1 - `decay` towards the weights, faster at the beginning.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._learnt = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._decay = decay
        self.values = {name: parameter.detach().clone() for name, parameter in self._learnt.items()}
        self.steps = 0

    def update(self) -> None:
        """Follow the weights after a step."""
        self.steps += 1
        decay = min(self._decay, self.steps / (self.steps + 9))
        torch._foreach_lerp_(list(self.values.values()), [p.detach() for p in self._learnt.values()], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the module has the averaged weights."""
        own = {name: parameter.detach().clone() for name, parameter in self._learnt.items()}
        self._put(self.values)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: dict[str, torch.Tensor]) -> None:
        for name, parameter in self._learnt.items():
            parameter.copy_(values[name])
