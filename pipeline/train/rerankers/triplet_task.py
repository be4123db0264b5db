"""What the recipes of rerankers share: batches of mined triplets, their pairs, random rotations.

Imported by the recipes beside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.rerank.checkpoints import RerankCheckpoint
from pipeline.train.data.training_set import TrainedReranker, TrainingSet
from pipeline.train.data.triplets import Triplets
from pipeline.train.loop.task import Rows, TrainingTask

NetworkT = TypeVar("NetworkT", bound=nn.Module)
TokensT = TypeVar("TokensT")


class TripletTask(TrainingTask, ABC):
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
        """See `TrainingTask.names`."""
        return [self.ids[row] for row in rows[:, :3].flatten().tolist()]

    def batches(self, rows: Rows) -> list[Rows]:
        """The rows of an epoch, divided into batches."""
        return np.split(rows, range(self.batch_size, len(rows), self.batch_size))


class SwappedTripletTask(TripletTask, Generic[NetworkT, TokensT]):
    """Binary cross-entropy on pairs, for transformers that are not symmetric: each pair comes in a random order.

    A batch has rows (anchor, positive, negative, swaps).

    Args:
        network: is trained.
        tokens: of all N images, in the rows that `triplets` names.
        triplets: the miner.
        ids: of the N images.
        per_epoch: triplets per epoch.
        batch_size: triplets per step.
        rotating: rotate the descriptors at random in each step.
    """

    def __init__(
        self,
        network: NetworkT,
        tokens: TokensT,
        triplets: Triplets,
        ids: Sequence[str],
        per_epoch: int,
        batch_size: int,
        rotating: bool = True,
    ) -> None:
        super().__init__(triplets, ids, per_epoch, batch_size)
        self.network, self.tokens, self.rotating = network, tokens, rotating

    def plan(self, rng: np.random.Generator) -> list[Rows]:
        """See `TrainingTask.plan`; two bits of the fourth column say which of the two pairs are swapped."""
        drawn = self.triplets.epoch(self.per_epoch, rng)
        return self.batches(np.column_stack([drawn, rng.integers(0, 4, len(drawn))]))

    def forward(self, rows: Rows) -> torch.Tensor:
        """See `TrainingTask.forward`."""
        left, right, truth = swapped_pairs(torch.from_numpy(rows))
        logits = self.logits(left, right)
        return functional.binary_cross_entropy_with_logits(logits, truth.to(logits.device))

    @abstractmethod
    def logits(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """[P] logits of pairs of images, whose rows are `left` and `right` [P] int64."""


class TripletRecipe:
    """A `Recipe` of a triplet task and of a reranker that scores with its network."""

    temperatures: tuple[float, ...] = (0.25, 1.0)
    task: TripletTask
    reranker: SavedReranker

    @property
    def anchors(self) -> int:
        """See `Recipe.anchors`."""
        return len(self.task.triplets.anchors)

    def checkpoint(self) -> RerankCheckpoint:
        """See `Recipe.checkpoint`."""
        return self.reranker.to_checkpoint()


class SavedReranker(TrainedReranker, Protocol):
    """A trained reranker that can be saved."""

    def to_checkpoint(self) -> RerankCheckpoint:
        """Its weights and settings."""


def swapped_pairs(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs of triplets [B, 4] (anchor, positive, negative, swaps): both sides [2 B], and 1 or 0 [2 B] float32."""
    anchor, positive, negative, swaps = rows.unbind(1)
    left, right = torch.cat([anchor, anchor]), torch.cat([positive, negative])
    swap = torch.cat([swaps % 2, swaps // 2]).bool()
    return torch.where(swap, right, left), torch.where(swap, left, right), truth_of(len(anchor))


def truth_of(count: int) -> torch.Tensor:
    """[2 count] float32: 1 for the positive pairs, which come first, 0 for the negative ones."""
    return torch.cat([torch.ones(count), torch.zeros(count)])


def random_rotation(width: int) -> torch.Tensor:
    """A random orthogonal matrix [width, width], on the CPU; draws from torch's generator."""
    rotation: torch.Tensor = torch.linalg.qr(torch.randn(width, width))[0]
    return rotation


def mine_triplets(training_set: TrainingSet, candidates: int, half: Rows | None = None) -> Triplets:
    """The miner of a training set.

    Args:
        training_set: gives labels and candidates.
        candidates: of each image, that negatives are drawn from.
        half: [N] the half of each image; triplets stay within one, for `CrossFitted`. None: all images are together.

    Raises:
        MiningError: the labels give no triplets.
    """
    groups = [0] * len(training_set.ids) if half is None else half.tolist()
    return Triplets(training_set.labels, training_set.candidates(candidates, half), groups)
