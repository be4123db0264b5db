"""Training of AMES from stored local descriptors.

A recipe of `train-rerank`, fed by mined triplets. Suma et al., ECCV 2024: binary cross-entropy on the logits of
(anchor, positive) and (anchor, negative), where every step compares another number of descriptors of either side, so
that one network serves any budget. Where very few labels are learnt from, a random rotation in every step leaves only
the likeness of descriptors to be learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from pipeline.config import AMESModelConfig, TrainRerankConfig
from pipeline.errors import RelookError
from pipeline.rerank.ames.network import AMESNetwork, AMESShape
from pipeline.rerank.ames.reranker import AMESReranker
from pipeline.rerank.checkpoints import RerankCheckpoint
from pipeline.train.data.ames_pairs import begun, twice
from pipeline.train.data.stored_locals import Side, StoredLocals
from pipeline.train.data.training_set import TrainingSet
from pipeline.train.data.triplets import Triplets
from pipeline.train.init.ames import calibrate, start_as_published, start_comparing
from pipeline.train.init.whitening import within_class_whitening
from pipeline.train.loop.task import Rows
from pipeline.train.rerankers.triplet_task import TripletTask
from pipeline.types import ModelCard

# Pairs that the start is fitted to.
_CALIBRATED = 512


class Compared(NamedTuple):
    """B triplets: the anchors' descriptors, and those of all positives, then of all negatives."""

    anchors: Side
    others: Side

    @property
    def truth(self) -> torch.Tensor:
        """[2 B], 1 for the positives."""
        return (torch.arange(len(self.others.descriptors)) < len(self.anchors.descriptors)).float()


class AMESTask(TripletTask):
    """Learns to tell positives from hard negatives.

    A batch has rows (anchor, positive, negative, query count, gallery count); the counts are equal in all of them.

    Args:
        network: what is trained.
        stored: the descriptors of all N pictures, in the rows that `triplets` names.
        triplets: the miner.
        ids: of the N pictures.
        settings: of the training.
    """

    def __init__(
        self,
        network: AMESNetwork,
        stored: StoredLocals,
        triplets: Triplets,
        ids: Sequence[str],
        settings: TrainRerankConfig,
    ) -> None:
        super().__init__(triplets, ids, settings.triplets, settings.batch_size)
        self.network = network
        self._stored, self._settings = stored, settings

    def plan(self, rng: np.random.Generator) -> list[Rows]:
        """See `Task.plan`; how many descriptors are compared is drawn anew for each batch and either side."""
        model = self._settings.ames
        batches = self.batches(self.triplets.epoch(self.per_epoch, rng))
        most = [model.query_locals + 1, model.gallery_locals + 1]
        counts = rng.integers(model.least_locals, most, (len(batches), 2))
        return [
            np.column_stack([rows, np.broadcast_to(pair, (len(rows), 2))])
            for rows, pair in zip(batches, counts, strict=True)
        ]

    def load(self, rows: Rows) -> Compared:
        """See `Task.load`."""
        return self.compared(rows, *rows[0, 3:].tolist())

    def compared(self, rows: Rows, query: int, gallery: int) -> Compared:
        """So many of the descriptors of what a batch names."""
        anchor, positive, negative = torch.from_numpy(rows[:, :3]).unbind(1)
        others = self._stored.side(torch.cat([positive, negative]), gallery)
        return Compared(self._stored.side(anchor, query), others)

    def forward(self, loaded: Compared) -> torch.Tensor:
        """See `Task.forward`."""
        device = self.network.mtc_token.device
        turn = self.turn()
        anchors, others = (begun(self.network, side.to(device), turn) for side in loaded)
        logits = self.network(twice(anchors), others)
        return functional.binary_cross_entropy_with_logits(logits, loaded.truth.to(device))

    def turn(self) -> torch.Tensor | None:
        """This step's rotation of the projected descriptors, on the network's device; None unless `turning`."""
        if not self._settings.ames.turning:
            return None
        width = self.network.shape.model_dim
        turn: torch.Tensor = torch.linalg.qr(torch.randn(width, width))[0]
        return turn.to(self.network.mtc_token.device)


class AMESRecipe:
    """See `Recipe`. A network of full precision.

    From the comparing start the projection begins as a within-class whitening of the local descriptors (closed form).

    Raises:
        MiningError: the labels give nothing to learn from.
        RelookError: the index has no locals, or has them projected for AMES.
    """

    def __init__(self, training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> None:
        model = settings.ames
        check_locals(training_set.card)
        triplets, stored = sources(training_set, settings)
        torch.manual_seed(seed)
        network = AMESNetwork(shape_for(model, training_set.card))
        self.task: AMESTask = AMESTask(network, stored, triplets, training_set.ids, settings)
        if model.start == "comparing":
            samples, rows = stored.sample()
            labels = [training_set.labels[row] for row in rows]
            width = min(model.model_dim, training_set.card.local_dimension)
            start_comparing(network, within_class_whitening(samples, labels, width, model.shrinkage))
            calibrate(network, lambda: _pass_pairs(self.task, seed))
        else:
            start_as_published(network)
        self.reranker = reranker_of(network, settings, training_set.card, device)
        self.anchors = len(triplets.anchors)

    def checkpoint(self) -> RerankCheckpoint:
        """See `Recipe.checkpoint`."""
        return self.reranker.to_checkpoint()


def check_locals(card: ModelCard) -> None:
    """Raises RelookError when AMES cannot be trained on the local descriptors of an index."""
    if not card.local_dimension:
        raise RelookError("ames learns from local descriptors; extract with --set describe.locals.count=50")
    projection = card.locals.projection
    if projection is not None:
        raise RelookError(
            f"the index holds local descriptors projected by {projection.kind}; ames learns from those of the "
            "backbone: extract another index without describe.locals.projection"
        )


def sources(training_set: TrainingSet, settings: TrainRerankConfig) -> tuple[Triplets, StoredLocals]:
    """The miner, and the descriptors of what it names."""
    answers = training_set.answers(settings.candidates, None)
    triplets = Triplets(training_set.labels, answers, [0] * len(training_set.ids))
    most = max(settings.ames.query_locals, settings.ames.gallery_locals)
    return triplets, StoredLocals(training_set.source, training_set.ids, most)


def reranker_of(network: AMESNetwork, settings: TrainRerankConfig, card: ModelCard, device: str) -> AMESReranker:
    """What validates a network: by the largest numbers of descriptors that it is trained with."""
    most = settings.ames.query_locals, settings.ames.gallery_locals
    return AMESReranker(network, card, device=device, query_locals=most[0], gallery_locals=most[1])


def shape_for(model: AMESModelConfig, card: ModelCard, binarised: bool = False) -> AMESShape:
    """The sizes of a network for the descriptors of `card`. Nothing is rounded that is not stored so."""
    return AMESShape(
        card.local_dimension, model.model_dim, model.heads, model.layers, model.feedforward, binarised, False
    )


@torch.no_grad()
def _pass_pairs(task: AMESTask, seed: int) -> torch.Tensor:
    """Passes pairs through the network, as many of each number of descriptors as the task draws; gives their truth."""
    truth = []
    for rows in task.plan(np.random.default_rng(seed)):
        loaded = task.load(rows)
        task(loaded)
        truth.append(loaded.truth)
        if sum(map(len, truth)) >= _CALIBRATED:
            break
    return torch.cat(truth)
