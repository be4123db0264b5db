"""Training of AMES from stored local descriptors.

A recipe of `train-rerank`, trained on mined triplets. Suma et al., ECCV 2024: binary cross-entropy on the logits of
(anchor, positive) and (anchor, negative), where every step draws the number of descriptors of either side, so that one
network works with any number. For very few labels, a random rotation in every step leaves only the similarity of
descriptors to be learned.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from pipeline.config import AMESModelConfig, TrainRerankConfig
from pipeline.errors import RelookError
from pipeline.rerank.ames.network import AMESNetwork, AMESShape
from pipeline.rerank.ames.reranker import AMESReranker
from pipeline.train.data.ames_pairs import begin_side, repeat_twice
from pipeline.train.data.stored_locals import StoredLocals
from pipeline.train.data.training_set import TrainingSet
from pipeline.train.data.triplets import Triplets
from pipeline.train.init.ames import calibrate, start_as_published, start_comparing
from pipeline.train.init.whitening import within_class_whitening
from pipeline.train.loop.task import Rows
from pipeline.train.rerankers.triplet_locals import LocalsTripletTask, TripletLocals
from pipeline.train.rerankers.triplet_task import TripletRecipe, mine_triplets, random_rotation
from pipeline.types import ModelCard

# Pairs that the start is calibrated on.
_CALIBRATED = 512


class AMESTask(LocalsTripletTask):
    """Binary cross-entropy on pairs; see `LocalsTripletTask` for the other arguments.

    Args:
        network: is trained.
    """

    def __init__(
        self,
        network: AMESNetwork,
        stored: StoredLocals,
        triplets: Triplets,
        ids: Sequence[str],
        settings: TrainRerankConfig,
    ) -> None:
        super().__init__(stored, triplets, ids, settings, settings.ames)
        self.network = network
        self._settings = settings

    def load(self, rows: Rows) -> TripletLocals:
        """See `TrainingTask.load`."""
        return self.triplet_locals(rows, *rows[0, 3:].tolist())

    def forward(self, loaded: TripletLocals) -> torch.Tensor:
        """See `TrainingTask.forward`."""
        device = self.network.mtc_token.device
        rotation = self.draw_rotation()
        anchors, others = (begin_side(self.network, side.to(device), rotation) for side in loaded)
        logits = self.network(repeat_twice(anchors), others)
        return functional.binary_cross_entropy_with_logits(logits, loaded.truth.to(device))

    def draw_rotation(self) -> torch.Tensor | None:
        """A random rotation of the projected descriptors, on the network's device; None unless `ames.turning`."""
        if not self._settings.ames.turning:
            return None
        return random_rotation(self.network.shape.model_dim).to(self.network.mtc_token.device)


class AMESRecipe(TripletRecipe):
    """See `Recipe`. Trains a network of full precision.

    From the comparing start the projection begins as a within-class whitening of the local descriptors.

    Raises:
        MiningError: the labels give no triplets.
        RelookError: the index has no locals, or has them projected for AMES.
    """

    task: AMESTask
    reranker: AMESReranker

    def __init__(self, training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> None:
        model = settings.ames
        check_locals(training_set.card)
        triplets, stored = triplets_and_locals(training_set, settings)
        torch.manual_seed(seed)
        network = AMESNetwork(shape_for(model, training_set.card))
        self.task = AMESTask(network, stored, triplets, training_set.ids, settings)
        if model.start == "comparing":
            samples, rows = stored.sample()
            labels = [training_set.labels[row] for row in rows]
            width = min(model.model_dim, training_set.card.local_dimension)
            start_comparing(network, within_class_whitening(samples, labels, width, model.shrinkage))
            calibrate(network, lambda: _pass_pairs(self.task, seed))
        else:
            start_as_published(network)
        self.reranker = validated_reranker(network, settings, training_set.card, device)


def check_locals(card: ModelCard) -> None:
    """Raises RelookError when AMES cannot be trained on the local descriptors of an index."""
    if not card.local_dimension:
        raise RelookError("ames is trained on local descriptors; extract with --set describe.locals.count=50")
    projection = card.locals.projection
    if projection is not None:
        raise RelookError(
            f"the index has local descriptors projected by {projection.kind}; ames is trained on those of the "
            "backbone: extract another index without describe.locals.projection"
        )


def triplets_and_locals(training_set: TrainingSet, settings: TrainRerankConfig) -> tuple[Triplets, StoredLocals]:
    """The miner, and the descriptors of the training set."""
    most = max(settings.ames.query_locals, settings.ames.gallery_locals)
    stored = StoredLocals(training_set.source, training_set.ids, most)
    return mine_triplets(training_set, settings.candidates), stored


def validated_reranker(network: AMESNetwork, settings: TrainRerankConfig, card: ModelCard, device: str) -> AMESReranker:
    """The reranker that is validated: with the largest numbers of descriptors that the network is trained with."""
    most = settings.ames.query_locals, settings.ames.gallery_locals
    return AMESReranker(network, card, device=device, query_locals=most[0], gallery_locals=most[1])


def shape_for(model: AMESModelConfig, card: ModelCard, binarised: bool = False) -> AMESShape:
    """The sizes of a network for the descriptors of `card`."""
    return AMESShape(
        card.local_dimension, model.model_dim, model.heads, model.layers, model.feedforward, binarised, False
    )


@torch.no_grad()
def _pass_pairs(task: AMESTask, seed: int) -> torch.Tensor:
    """Pass pairs through the network, in batches as the task draws them; returns their truth [P]."""
    truth = []
    for rows in task.plan(np.random.default_rng(seed)):
        loaded = task.load(rows)
        task(loaded)
        truth.append(loaded.truth)
        if sum(map(len, truth)) >= _CALIBRATED:
            break
    return torch.cat(truth)
