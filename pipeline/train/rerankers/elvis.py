"""Training of ELViS from stored local descriptors.

A recipe of `train-rerank`, trained on mined triplets. Suma et al., ICLR 2026, as in the authors' code: binary
cross-entropy on logits of (anchor, positive) and (anchor, negative), where a logit is a perceptron of the sum of the
votes that nothing but training uses; every step draws the number of descriptors of either side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from pipeline.config import ELViSModelConfig, TrainRerankConfig
from pipeline.errors import RelookError
from pipeline.rerank.elvis.network import ELViSNetwork, ELViSShape
from pipeline.rerank.elvis.reranker import ELViSReranker
from pipeline.rerank.elvis.transport import refuse_sharpness
from pipeline.rerank.image_rows import Batch
from pipeline.train.data.ames_pairs import repeat_twice
from pipeline.train.data.stored_locals import Side, StoredLocals
from pipeline.train.data.training_set import TrainingSet
from pipeline.train.data.triplets import Triplets
from pipeline.train.init.elvis import start_centred, start_voting
from pipeline.train.loop.task import Rows
from pipeline.train.rerankers.triplet_locals import LocalsTripletTask, TripletLocals
from pipeline.train.rerankers.triplet_task import TripletRecipe, mine_triplets
from pipeline.types import ModelCard

# A loaded batch: its descriptors, and how many of the anchors and of the others were requested.
Loaded = tuple[TripletLocals, tuple[int, int]]


class ELViSTask(LocalsTripletTask):
    """Binary cross-entropy on pairs; see `LocalsTripletTask` for the other arguments.

    Args:
        network: is trained.
    """

    def __init__(
        self,
        network: ELViSNetwork,
        stored: StoredLocals,
        triplets: Triplets,
        ids: Sequence[str],
        settings: TrainRerankConfig,
    ) -> None:
        super().__init__(stored, triplets, ids, settings, settings.elvis)
        self.network = network

    def load(self, rows: Rows) -> Loaded:
        """See `TrainingTask.load`."""
        query, gallery = rows[0, 3:].tolist()
        return self.triplet_locals(rows, query, gallery), (query, gallery)

    def forward(self, loaded: Loaded) -> torch.Tensor:
        """See `TrainingTask.forward`."""
        triplets, counts = loaded
        device = self.network.dust_bin.device
        anchors, others = (self._begin(side.to(device), count) for side, count in zip(triplets, counts, strict=True))
        logits = self.network.logits(self.network(repeat_twice(anchors), others))
        return functional.binary_cross_entropy_with_logits(logits, triplets.truth.to(device))

    def _begin(self, side: Side, count: int) -> Batch:
        """Images after `ELViSNetwork.begin`, padded to `count` where the network counts padding."""
        rows = self.network.begin(side.descriptors)
        real = rows.new_full((len(rows),), float(rows.shape[1]))
        if side.padding is not None:
            real = real - side.padding.sum(dim=1)
        padding = count - real if self.network.shape.counts_padding else torch.zeros_like(real)
        return Batch(rows, side.padding, self.network.padding(padding))


class ELViSRecipe(TripletRecipe):
    """See `Recipe`.

    Raises:
        MiningError: the labels give no triplets.
        RelookError: the index has no local descriptors of unit length, or the sharpness is out of range.
    """

    # A score is a sum over all descriptors: with larger factors all candidates would be 1.
    temperatures: tuple[float, ...] = (0.01, 0.05, 0.25)
    task: ELViSTask
    reranker: ELViSReranker

    def __init__(self, training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> None:
        model, card = settings.elvis, training_set.card
        if not card.local_dimension:
            raise RelookError("elvis is trained on local descriptors; extract with --set describe.locals.count=50")
        torch.manual_seed(seed)
        network = ELViSNetwork(shape_for(model, card))
        refuse_sharpness(network.dust_bin, model.sharpness)
        start_voting(network)
        most = model.query_locals, model.gallery_locals
        stored = StoredLocals(training_set.source, training_set.ids, max(most))
        if model.start == "centred":
            start_centred(network, stored.sample()[0])
        self.reranker = ELViSReranker(network, card, device=device, query_locals=most[0], gallery_locals=most[1])
        self.reranker.check(card)
        triplets = mine_triplets(training_set, settings.candidates)
        self.task = ELViSTask(network, stored, triplets, training_set.ids, settings)


def shape_for(model: ELViSModelConfig, card: ModelCard) -> ELViSShape:
    """The sizes of a network for the descriptors of `card`."""
    return ELViSShape(
        card.local_dimension,
        model.model_dim,
        model.embed_dim,
        model.proj_dim,
        model.iterations,
        model.sharpness,
        model.counts_padding,
    )
