"""What a trainer of relook is: a module whose `forward` gives the loss of a batch.

Run by the one loop (`loop.py`). A batch is an array of integers that says everything about it, so that it can be drawn
again after a kill, divided among processes, and named when its loss is no number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Rows = npt.NDArray[np.int64]


class Task(nn.Module, ABC):
    """What is trained: the module's parameters that ask for gradients; its buffers are kept with them.

    Whatever else changes during a run has to be a buffer or follow from the batch, or a resumed run would differ.
    Random numbers in `forward` come from torch's own generator, which the loop seeds per step, the same on every
    process.
    """

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Called before `plan` in every epoch, counted from 1; a curriculum follows from these two numbers alone."""

    @abstractmethod
    def plan(self, rng: np.random.Generator) -> list[Rows]:
        """The batches of one epoch, [B, k] integers each, drawn from `rng` alone; as many in every epoch, and cheap."""

    def load(self, rows: Rows) -> Any:
        """What `forward` takes, such as decoded pictures; called ahead, on other threads. `rows` itself by default."""
        return rows

    @abstractmethod
    def forward(self, loaded: Any) -> torch.Tensor:
        """The mean loss of what `load` gave, a scalar: of a part of a batch, or of a process's share of it."""

    def after_step(self) -> None:
        """Called after every step of the optimizer, such as to move a momentum encoder."""

    @abstractmethod
    def names(self, rows: Rows) -> Sequence[str]:
        """The ids of the pictures of a batch, for errors."""

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Parameter groups for the optimizer; `lr_scale` in a group is a factor on the learning rate."""
        return decaying_groups(self, weight_decay)


@dataclass(frozen=True)
class Validation:
    """What a validation found; `metrics` in percent, `score` decides which epoch is best, `extra` is the caller's.

    No `score`: nothing was validated, and the last epoch counts as the best.
    """

    score: float | None
    metrics: dict[str, float]
    extra: dict[str, float] = field(default_factory=dict)


def decaying_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of the parameters to be learnt: matrices and kernels decay; biases, norms and embeddings do not."""
    embeddings = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decaying = [p for p in learnt if p.ndim > 1 and id(p) not in embeddings]
    others = [p for p in learnt if p.ndim <= 1 or id(p) in embeddings]
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
