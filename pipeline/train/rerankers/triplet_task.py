"""What the trainings of rerankers share: batches of mined triplets, their pairs, and cross-fitted projections.

Below the recipes of this room.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from pipeline.rerank.checkpoints import RerankCheckpoint
from pipeline.train.data.hold_out import halves
from pipeline.train.data.training_set import TrainingSet
from pipeline.train.data.triplets import Triplets
from pipeline.train.init.whitening import Whitening
from pipeline.train.loop.task import Rows, Task
from pipeline.types import FloatArray


class TripletTask(Task, ABC):
    """A task whose batches have rows that begin with (anchor, positive, negative).

    Args:
        triplets: the miner.
        ids: of the N images, in the rows that `triplets` names.
        per_epoch: triplets per epoch.
        batch_size: triplets per step.
    """

    def __init__(self, triplets: Triplets, ids: Sequence[str], per_epoch: int, batch_size: int) -> None:
        super().__init__()
        self.triplets, self.ids = triplets, ids
        self.per_epoch, self.batch_size = per_epoch, batch_size

    def names(self, rows: Rows) -> list[str]:
        """See `Task.names`."""
        return [self.ids[row] for row in rows[:, :3].flatten().tolist()]

    def batches(self, rows: Rows) -> list[Rows]:
        """The rows of an epoch, divided into batches."""
        return np.split(rows, range(self.batch_size, len(rows), self.batch_size))


class SwappedTripletTask(TripletTask, ABC):
    """The same for networks that are not symmetric: each pair comes in either order, as a fourth column says."""

    def plan(self, rng: np.random.Generator) -> list[Rows]:
        """See `Task.plan`; two bits of the fourth column say which of the two pairs are swapped."""
        drawn = self.triplets.epoch(self.per_epoch, rng)
        return self.batches(np.column_stack([drawn, rng.integers(0, 4, len(drawn))]))


def swapped_pairs(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs of triplets [B, 4] (anchor, positive, negative, swaps): both sides [2 B], and 1 or 0 [2 B] float32."""
    anchor, positive, negative, swaps = rows.unbind(1)
    left, right = torch.cat([anchor, anchor]), torch.cat([positive, negative])
    swap = torch.cat([swaps % 2, swaps // 2]).bool()
    return torch.where(swap, right, left), torch.where(swap, left, right), truth_of(len(anchor))


def truth_of(count: int) -> torch.Tensor:
    """[2 count] float32: 1 for the positive pairs, which come first, 0 for the negative ones."""
    return torch.cat([torch.ones(count), torch.zeros(count)])


def mined(training_set: TrainingSet, candidates: int, cross_fitted: bool) -> tuple[Triplets, Rows]:
    """The miner, and the half [N] of each image.

    Projections that are cross-fitted are fitted on one half and applied to the other, so that triplets stay within a
    half; otherwise all images are of half 0.

    Raises:
        MiningError: the labels give nothing to train on.
    """
    labels = training_set.labels
    half = halves(labels, training_set.vectors) if cross_fitted else np.zeros(len(labels), np.int64)
    return Triplets(labels, training_set.answers(candidates, half), half.tolist()), half


class Fit(Protocol):
    """A projection that is fitted on vectors [N, D] and their labels."""

    def __call__(self, vectors: FloatArray, labels: Sequence[str], /) -> Whitening:
        """Images with the label "" are ignored."""


def cross_fitted(fit: Fit, vectors: FloatArray, labels: Sequence[str], half: Rows) -> tuple[Whitening, Whitening]:
    """For each half the projection that was fitted on the other.

    Fitted on themselves, images of one label would look more alike than those of new photos ever do.
    """
    first, second = (
        fit(vectors, [label if half[row] != side else "" for row, label in enumerate(labels)]) for side in (0, 1)
    )
    return first, second


def calibration(vectors: torch.Tensor, drawn: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines [2 P] of the positive and the negative pairs of triplets [P, 3], and their truth."""
    unit = functional.normalize(vectors, dim=1)
    anchor, positive, negative = (unit[rows] for rows in torch.from_numpy(drawn).unbind(1))
    return torch.cat([(anchor * positive).sum(dim=1), (anchor * negative).sum(dim=1)]), truth_of(len(anchor))


def with_projection(checkpoint: RerankCheckpoint, layer: str, kept: Whitening | None) -> RerankCheckpoint:
    """The checkpoint with the projection that was fitted on everything as its layer; as it is where there is none."""
    if kept is not None:
        checkpoint.state[f"{layer}.weight"] = torch.from_numpy(kept.weight)
        checkpoint.state[f"{layer}.bias"] = torch.from_numpy(kept.bias)
    return checkpoint
