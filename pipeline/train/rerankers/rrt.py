"""Training of the Reranking Transformer from stored descriptors.

A recipe of `train-rerank`, fed by mined triplets. Tan, Yuan, Ordonez, ICCV 2021, section 3.3: binary cross-entropy on
the logits of (anchor, positive) and (anchor, negative); here either side comes first as often, because the network is
not symmetric. From its comparing start every step also turns the descriptors by a random rotation, so that only their
likeness can be learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.config import RRTModelConfig, TrainRerankConfig
from pipeline.errors import RelookError
from pipeline.rerank.checkpoints import RerankCheckpoint
from pipeline.rerank.rrt.network import RRTNetwork, RRTShape, Tokens
from pipeline.rerank.rrt.reranker import RRTReranker, tokens_of
from pipeline.train.data.training_set import TrainingSet
from pipeline.train.data.triplets import Triplets
from pipeline.train.init.rrt import calibrate_skip, start_comparing
from pipeline.train.init.whitening import Whitening, within_class_whitening
from pipeline.train.loop.task import Rows
from pipeline.train.rerankers.triplet_task import (
    SwappedTripletTask,
    calibration,
    cross_fitted,
    mined,
    swapped_pairs,
    with_projection,
)
from pipeline.types import Description, ModelCard


class RRTTask(SwappedTripletTask):
    """Learns to tell positives from hard negatives. A batch has rows (anchor, positive, negative, sides).

    Args:
        network: what is trained.
        tokens: of all N pictures, in the rows that `triplets` names.
        triplets: the miner.
        ids: of the N pictures.
        per_epoch: triplets per epoch.
        batch_size: triplets per step.
        turning: whether each step turns the descriptors by a random rotation. The globals of `tokens` are projected to
            [N, d_model] already then, each by a projection that was fitted without it, so that they look as those of
            new photos will, and the network's own projection is not trained.
    """

    def __init__(
        self,
        network: RRTNetwork,
        tokens: Tokens,
        triplets: Triplets,
        ids: Sequence[str],
        per_epoch: int,
        batch_size: int,
        turning: bool = True,
    ) -> None:
        super().__init__(triplets, ids, per_epoch, batch_size)
        self.network = network
        self._tokens = tokens
        self._turning = turning

    def forward(self, rows: Rows) -> torch.Tensor:
        """See `Task.forward`."""
        left, right, truth = swapped_pairs(torch.from_numpy(rows))
        source, target = self._tokens[left], self._tokens[right]
        if self._turning:
            width = self.network.shape.d_model
            turns = [torch.linalg.qr(torch.randn(width, width))[0] for _ in range(2)]
            source, target = _turned(source, *turns), _turned(target, *turns)
        device = self.network.remap.weight.device
        logits = self.network(source.to(device), target.to(device), remapped=self._turning)
        return functional.binary_cross_entropy_with_logits(logits, truth.to(device))


class RRTRecipe:
    """See `Recipe`. A network, and descriptors to learn from.

    From the comparing start the globals of each half of the pictures are projected by a whitening that was fitted on
    the other: fitted on themselves, pictures of one label would look more alike than those of new photos ever do. What
    is kept has the projection that was fitted on everything: the transformer takes descriptors in any rotation. From
    the paper's start the projection is learnt with the rest.

    Raises:
        MiningError: the labels give nothing to learn from.
        RelookError: the index has no locals.
    """

    def __init__(self, training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> None:
        card, model = training_set.card, settings.rrt
        if not card.local_dimension:
            raise RelookError("rrt learns from local descriptors; extract with --set describe.locals.count=50")
        comparing = model.start == "comparing"
        triplets, half = mined(training_set, settings.candidates, comparing)
        torch.manual_seed(seed)
        network = RRTNetwork(_shape(model, card))
        described = [
            Description(vector, part)
            for vector, part in zip(training_set.vectors, training_set.source.locals(training_set.ids), strict=True)
        ]
        tokens = tokens_of(described, network.shape)
        self._kept: Whitening | None = None
        if comparing:
            fit = partial(within_class_whitening, dimension=network.shape.d_model, shrinkage=model.shrinkage)
            start_comparing(network, fit(training_set.vectors, training_set.labels))
            others = cross_fitted(fit, training_set.vectors, training_set.labels, half)
            projected = np.where(half[:, None] == 0, *(other.apply(training_set.vectors) for other in others))
            drawn = triplets.epoch(settings.triplets, np.random.default_rng(seed))
            calibrate_skip(network, *calibration(torch.from_numpy(projected), drawn))
            tokens = replace(tokens, vector=torch.from_numpy(projected))
            self._kept = fit(*training_set.everything)
        self.task = RRTTask(
            network, tokens, triplets, training_set.ids, settings.triplets, settings.batch_size, comparing
        )
        self.reranker = RRTReranker(network, card, device=device)
        self.anchors = len(triplets.anchors)

    def checkpoint(self) -> RerankCheckpoint:
        """See `Recipe.checkpoint`."""
        return with_projection(self.reranker.to_checkpoint(), "remap", self._kept)


def _shape(model: RRTModelConfig, card: ModelCard) -> RRTShape:
    options: dict[str, Any] = model.model_dump(exclude={"shrinkage", "start"})
    if model.start == "comparing":
        options |= {"token_length": card.local_dimension**0.5, "symmetric": True, "skip": True}
    return RRTShape(d_global=card.dimension, d_model=card.local_dimension, scale_rule="nearest", **options)


def _turned(tokens: Tokens, global_turn: torch.Tensor, local_turn: torch.Tensor) -> Tokens:
    return Tokens(tokens.vector @ global_turn, tokens.locals @ local_turn, tokens.scale, tokens.padding)
