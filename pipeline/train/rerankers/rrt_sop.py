"""Training of the Reranking Transformer for products from the maps that an index holds.

A recipe of `train-rerank`, trained on mined triplets. Tan, Yuan, Ordonez, ICCV 2021, section 4.2, with a frozen
backbone: binary cross-entropy on the logits of (anchor, positive) and (anchor, negative).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from pipeline.config import RRTSOPModelConfig, TrainRerankConfig
from pipeline.errors import RelookError
from pipeline.rerank.checkpoints import RerankCheckpoint
from pipeline.rerank.rrt_sop.network import RRTSOPNetwork, RRTSOPShape
from pipeline.rerank.rrt_sop.reranker import RRTSOPReranker, refuse_without_maps
from pipeline.train.data.hold_out import halves
from pipeline.train.data.map_tokens import MapTokens, means_of, read_maps
from pipeline.train.data.training_set import TrainingSet
from pipeline.train.init.rrt import calibrate_skip, start_comparing_maps
from pipeline.train.loop.task import Rows
from pipeline.train.rerankers.cross_fitting import CrossFitted, pair_cosines, with_projection
from pipeline.train.rerankers.triplet_task import SwappedTripletTask, TripletRecipe, mine_triplets, random_rotation
from pipeline.types import FloatArray


class RRTSOPTask(SwappedTripletTask[RRTSOPNetwork, MapTokens]):
    """See `SwappedTripletTask`; `rotating` rotates the descriptors, not their positions."""

    def logits(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """See `SwappedTripletTask.logits`."""
        device = self.network.classifier.weight.device
        rotation = random_rotation(self.network.shape.d_model) if self.rotating else None
        result: torch.Tensor = self.network(*(self.tokens.batch(side, rotation, device) for side in (left, right)))
        return result


class RRTSOPRecipe(TripletRecipe):
    """See `Recipe`. Trains a network on the maps of an index.

    From the comparing start the cells are projected by cross-fitted whitenings of the maps' means, and the checkpoint
    gets the one that was fitted on all images: the transformer accepts descriptors in any rotation. From the paper's
    start nothing is projected or rotated.

    Raises:
        MiningError: the labels give no triplets.
        RelookError: the index has no whole maps, or the heads do not divide the width of the tokens.
    """

    task: RRTSOPTask
    reranker: RRTSOPReranker

    def __init__(self, training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> None:
        model = settings.rrt_sop
        refuse_without_maps(training_set.card)
        comparing = model.start == "comparing"
        half = halves(training_set.labels, training_set.vectors) if comparing else None
        triplets = mine_triplets(training_set, settings.candidates, half)
        torch.manual_seed(seed)
        network = RRTSOPNetwork(shape_for(model, training_set.card.local_dimension))
        self._whitenings: CrossFitted | None = None
        if half is not None:
            self._whitenings = whitenings = _fit_whitenings(network, training_set, half, model.shrinkage)
            start_comparing_maps(network, whitenings.training)
            of_image = [whitenings.of_half[number] for number in half.tolist()]
            tokens = _tokens(network, training_set, lambda row, cells: of_image[row].apply(cells))
            drawn = triplets.epoch(settings.triplets, np.random.default_rng(seed))
            calibrate_skip(network, *pair_cosines(tokens.cells.whole, drawn))
        else:
            tokens = _tokens(network, training_set, lambda row, cells: cells)
        self.task = RRTSOPTask(
            network, tokens, triplets, training_set.ids, settings.triplets, settings.batch_size, comparing
        )
        self.reranker = RRTSOPReranker(network, training_set.card, device=device)

    def checkpoint(self) -> RerankCheckpoint:
        """See `Recipe.checkpoint`."""
        return with_projection(super().checkpoint(), "remap_local", self._whitenings)


def shape_for(model: RRTSOPModelConfig, channels: int) -> RRTSOPShape:
    """The sizes of a network for maps of so many channels. Raises RelookError where they do not fit together."""
    width = min(model.width, channels) if model.start == "comparing" else channels
    if width % model.heads or width % 2:
        raise RelookError(
            f"train_rerank.rrt_sop.heads = {model.heads}: tokens of {width} values cannot be divided by this number "
            "(train_rerank.rrt_sop.width and describe.locals.dimension say how wide they are)"
        )
    shape = RRTSOPShape(width, model.heads, model.layers, model.feedforward, model.dropout)
    if model.start == "paper":
        return shape
    return replace(shape, d_local=channels, token_length=width**0.5, symmetric=True, skip=True)


def _fit_whitenings(network: RRTSOPNetwork, training_set: TrainingSet, half: Rows, shrinkage: float) -> CrossFitted:
    means, all_means = (means_of(training_set.source, ids) for ids in (training_set.ids, training_set.all_ids))
    return CrossFitted.fit(training_set, half, means, all_means, network.shape.d_model, shrinkage)


def _tokens(
    network: RRTSOPNetwork, training_set: TrainingSet, project: Callable[[int, FloatArray], FloatArray]
) -> MapTokens:
    """Tokens of all maps; `project` is called with the row of an image and its cells [h * w, d]."""
    cells, sizes = [], []
    for row, part in enumerate(read_maps(training_set.source, training_set.ids)):
        channels, height, width = part.shape
        cells.append(torch.from_numpy(project(row, part.reshape(channels, -1).T)))
        sizes.append((height, width))
    return MapTokens.of(network, cells, sizes)
