"""Triplets of images as sets of local descriptors, with numbers of descriptors that are drawn for each step.

The task that the recipes of `ames` and `elvis` build on. Suma et al. (ECCV 2024, ICLR 2026) draw the numbers of both
sides of a pair, so that one network works with any number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch

from pipeline.config import TrainRerankConfig
from pipeline.train.data.stored_locals import Side, StoredLocals
from pipeline.train.data.triplets import Triplets
from pipeline.train.loop.task import Rows
from pipeline.train.rerankers.triplet_task import TripletTask, truth_of


class TripletLocals(NamedTuple):
    """The descriptors of B triplets: of the anchors [B, n, d]; of all positives, then all negatives [2 B, n, d]."""

    anchors: Side
    others: Side

    @property
    def truth(self) -> torch.Tensor:
        """[2 B] float32, 1 for the positives."""
        return truth_of(len(self.anchors.descriptors))


class NumbersOfLocals(Protocol):
    """The settings that say how many descriptors a step reads."""

    @property
    def least_locals(self) -> int:
        """Fewest of either image."""

    @property
    def query_locals(self) -> int:
        """Most of the anchor."""

    @property
    def gallery_locals(self) -> int:
        """Most of the other image."""


class LocalsTripletTask(TripletTask):
    """A batch has rows (anchor, positive, negative, query count, gallery count); all rows have the same two counts.

    Args:
        stored: the descriptors of all N images, in the rows that `triplets` names.
        triplets: the miner.
        ids: of the N images.
        settings: of the training.
        numbers: the fewest and the most descriptors.
    """

    def __init__(
        self,
        stored: StoredLocals,
        triplets: Triplets,
        ids: Sequence[str],
        settings: TrainRerankConfig,
        numbers: NumbersOfLocals,
    ) -> None:
        super().__init__(triplets, ids, settings.triplets, settings.batch_size)
        self._stored, self._numbers = stored, numbers

    def plan(self, rng: np.random.Generator) -> list[Rows]:
        """See `TrainingTask.plan`; the two numbers of descriptors are drawn for each batch."""
        batches = self.batches(self.triplets.epoch(self.per_epoch, rng))
        most = [self._numbers.query_locals + 1, self._numbers.gallery_locals + 1]
        counts = rng.integers(self._numbers.least_locals, most, (len(batches), 2))
        return [
            np.column_stack([rows, np.broadcast_to(pair, (len(rows), 2))])
            for rows, pair in zip(batches, counts, strict=True)
        ]

    def triplet_locals(self, rows: Rows, query: int, gallery: int) -> TripletLocals:
        """The strongest `query` descriptors of a batch's anchors, and `gallery` of its other images."""
        anchor, positive, negative = torch.from_numpy(rows[:, :3]).unbind(1)
        others = self._stored.side(torch.cat([positive, negative]), gallery)
        return TripletLocals(self._stored.side(anchor, query), others)
