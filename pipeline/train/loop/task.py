"""The base of everything that is trained: a module whose `forward` gives the loss of a batch.

Run by the loop (`fit.py`). A batch is an array of integers that defines it completely, so that it can be drawn again
after a kill, divided among processes, and named when its loss is not finite.
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


class TrainingTask(nn.Module, ABC):
    """Trains its parameters with `requires_grad`; they and its buffers are in the saved state.

    Anything else that changes during a run must be a buffer or follow from the batch, or a resumed run would differ.
    Random numbers in `forward` come from torch's global generator, which the loop seeds per step, the same on every
    process.
    """

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Called before `plan` in every epoch, counted from 1; a curriculum follows from these two numbers alone."""

    @abstractmethod
    def plan(self, rng: np.random.Generator) -> list[Rows]:
        """The batches of one epoch, [B, k] integers each, drawn from `rng` alone; as many in every epoch, and cheap."""

    def load(self, rows: Rows) -> Any:
        """The input of `forward`, such as decoded images; called on prefetching threads. `rows` itself by default."""
        return rows

    @abstractmethod
    def forward(self, loaded: Any) -> torch.Tensor:
        """The mean loss of a loaded batch, or of a part of one, a scalar."""

    def after_step(self) -> None:
        """Called after every step of the optimizer, such as to update a momentum encoder."""

    @abstractmethod
    def names(self, rows: Rows) -> Sequence[str]:
        """The ids of the images of a batch, for errors."""

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Parameter groups for the optimizer; `lr_scale` in a group is a factor on the learning rate."""
        return decaying_groups(self, weight_decay)


@dataclass(frozen=True)
class Validation:
    """The result of a validation.

    Attributes:
        score: the epoch with the highest one is the best; None: nothing was validated, and the last epoch is the best.
        metrics: by name, in percent.
        extra: further numbers for the caller.
    """

    score: float | None
    metrics: dict[str, float]
    extra: dict[str, float] = field(default_factory=dict)


def decaying_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of the trained parameters: matrices and kernels decay; biases, norms and embeddings do not."""
    embeddings = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decaying = [p for p in trained if p.ndim > 1 and id(p) not in embeddings]
    others = [p for p in trained if p.ndim <= 1 or id(p) in embeddings]
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
