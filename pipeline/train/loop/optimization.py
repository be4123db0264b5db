"""Optimizer, learning-rate schedule and moving average of the weights, as the configuration says.

Used by the loop. Optimizers and schedules are torch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pipeline.config import LoopConfig
from pipeline.train.loop.task import TrainingTask


def make_optimizer(task: TrainingTask, settings: LoopConfig) -> torch.optim.Optimizer:
    """The optimizer of a task; a group with `lr_scale` has that multiple of the rate."""
    groups = task.groups(settings.weight_decay)
    for group in groups:
        group["lr"] = settings.learning_rate * group.pop("lr_scale", 1.0)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


# The rate after the warm-up, over the part of the remaining steps that is done.
_DECAYS: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
}


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: LoopConfig, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up over a part of all `steps`, then a cosine or linear decay to zero, or a constant rate."""
    rising = round(steps * settings.warmup)

    def rate(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        done = (step - rising) / max(1, steps - rising)
        return _DECAYS[settings.schedule](done)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


class Average:
    """The exponential moving average of a module's trained parameters; frozen ones and buffers are not averaged.

    Every process keeps its own, all equal: that costs little, and nothing has to be sent.

    Args:
        module: its parameters with `requires_grad` are averaged.
        decay: each step moves the average by 1 - `decay` towards the weights, faster at the beginning.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._decay = decay
        self.values = {name: parameter.detach().clone() for name, parameter in self._trained.items()}
        self.steps = 0

    def update(self) -> None:
        """Update the average after a step."""
        self.steps += 1
        decay = min(self._decay, self.steps / (self.steps + 9))
        torch._foreach_lerp_(list(self.values.values()), [p.detach() for p in self._trained.values()], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the module has the averaged weights."""
        own = {name: parameter.detach().clone() for name, parameter in self._trained.items()}
        self._put(self.values)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: dict[str, torch.Tensor]) -> None:
        for name, parameter in self._trained.items():
            parameter.copy_(values[name])
