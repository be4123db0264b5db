"""Training of the Reranking Transformer from stored descriptors.

A recipe of `train-rerank`, trained on mined triplets. Tan, Yuan, Ordonez, ICCV 2021, section 3.3: binary cross-entropy
on the logits of (anchor, positive) and (anchor, negative); here in a random order, because the network is not
symmetric. From its comparing start every step also rotates the descriptors at random, so that only their similarity
can be learned.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pipeline.config import RRTModelConfig, TrainRerankConfig
from pipeline.errors import RelookError
from pipeline.rerank.checkpoints import RerankCheckpoint
from pipeline.rerank.rrt.network import RRTNetwork, RRTShape, Tokens
from pipeline.rerank.rrt.reranker import RRTReranker, tokens_of
from pipeline.train.data.hold_out import halves
from pipeline.train.data.training_set import TrainingSet
from pipeline.train.init.rrt import calibrate_skip, start_comparing
from pipeline.train.loop.task import Rows
from pipeline.train.rerankers.cross_fitting import CrossFitted, pair_cosines, with_projection
from pipeline.train.rerankers.triplet_task import SwappedTripletTask, TripletRecipe, mine_triplets, random_rotation
from pipeline.types import Description, FloatArray, ModelCard


class RRTTask(SwappedTripletTask[RRTNetwork, Tokens]):
    """See `SwappedTripletTask`.

    With `rotating`, the globals of `tokens` are projected to [N, d_model] already, each by a projection that was fitted
    without it, so that they are distributed as those of new photos; the network's own projection is not trained.
    """

    def logits(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """See `SwappedTripletTask.logits`."""
        source, target = self.tokens[left], self.tokens[right]
        if self.rotating:
            rotations = [random_rotation(self.network.shape.d_model) for _ in range(2)]
            source, target = _rotated(source, *rotations), _rotated(target, *rotations)
        device = self.network.remap.weight.device
        result: torch.Tensor = self.network(source.to(device), target.to(device), remapped=self.rotating)
        return result


class RRTRecipe(TripletRecipe):
    """See `Recipe`. Trains a network on the stored descriptors of an index.

    From the comparing start the globals are projected by cross-fitted whitenings, and the checkpoint gets the one that
    was fitted on all images: the transformer accepts descriptors in any rotation. From the paper's start the projection
    is trained with the rest.

    Raises:
        MiningError: the labels give no triplets.
        RelookError: the index has no locals.
    """

    task: RRTTask
    reranker: RRTReranker

    def __init__(self, training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> None:
        card, model = training_set.card, settings.rrt
        if not card.local_dimension:
            raise RelookError("rrt is trained on local descriptors; extract with --set describe.locals.count=50")
        comparing = model.start == "comparing"
        half = halves(training_set.labels, training_set.vectors) if comparing else None
        triplets = mine_triplets(training_set, settings.candidates, half)
        torch.manual_seed(seed)
        network = RRTNetwork(_shape(model, card))
        tokens = _tokens(network, training_set)
        self._whitenings: CrossFitted | None = None
        if half is not None:
            self._whitenings = CrossFitted.fit(
                training_set,
                half,
                training_set.vectors,
                training_set.all_vectors,
                network.shape.d_model,
                model.shrinkage,
            )
            start_comparing(network, self._whitenings.training)
            vectors = _projected(training_set.vectors, half, self._whitenings)
            drawn = triplets.epoch(settings.triplets, np.random.default_rng(seed))
            calibrate_skip(network, *pair_cosines(vectors, drawn))
            tokens = replace(tokens, vector=vectors)
        self.task = RRTTask(
            network, tokens, triplets, training_set.ids, settings.triplets, settings.batch_size, comparing
        )
        self.reranker = RRTReranker(network, card, device=device)

    def checkpoint(self) -> RerankCheckpoint:
        """See `Recipe.checkpoint`."""
        return with_projection(super().checkpoint(), "remap", self._whitenings)


def _shape(model: RRTModelConfig, card: ModelCard) -> RRTShape:
    options: dict[str, Any] = model.model_dump(exclude={"shrinkage", "start"})
    if model.start == "comparing":
        options |= {"token_length": card.local_dimension**0.5, "symmetric": True, "skip": True}
    return RRTShape(d_global=card.dimension, d_model=card.local_dimension, scale_rule="nearest", **options)


def _tokens(network: RRTNetwork, training_set: TrainingSet) -> Tokens:
    described = [
        Description(vector, part)
        for vector, part in zip(training_set.vectors, training_set.source.locals(training_set.ids), strict=True)
    ]
    return tokens_of(described, network.shape)


def _projected(vectors: FloatArray, half: Rows, whitenings: CrossFitted) -> torch.Tensor:
    """[N, d_model] the globals of each half, whitened by what was fitted on the other."""
    both = (whitening.apply(vectors) for whitening in whitenings.of_half)
    return torch.from_numpy(np.where(half[:, None] == 0, *both))


def _rotated(tokens: Tokens, of_globals: torch.Tensor, of_locals: torch.Tensor) -> Tokens:
    return Tokens(tokens.vector @ of_globals, tokens.locals @ of_locals, tokens.scale, tokens.padding)
