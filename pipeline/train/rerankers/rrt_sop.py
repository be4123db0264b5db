"""Training of the Reranking Transformer for products from the maps that an index holds.

A recipe of `train-rerank`, fed by mined triplets. Tan, Yuan, Ordonez, ICCV 2021, section 4.2, with a frozen backbone:
binary cross-entropy on the logits of (anchor, positive) and (anchor, negative).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from pipeline.config import RRTSOPModelConfig, TrainRerankConfig
from pipeline.errors import RelookError
from pipeline.rerank.checkpoints import RerankCheckpoint
from pipeline.rerank.rrt_sop.network import RRTSOPNetwork, RRTSOPShape
from pipeline.rerank.rrt_sop.reranker import RRTSOPReranker, refuse_without_maps
from pipeline.train.data.map_tokens import MapTokens, means_of, read_maps
from pipeline.train.data.training_set import TrainingSet
from pipeline.train.data.triplets import Triplets
from pipeline.train.init.rrt import calibrate_skip, start_comparing_maps
from pipeline.train.init.whitening import Whitening, within_class_whitening
from pipeline.train.loop.task import Rows
from pipeline.train.rerankers.triplet_task import (
    Fit,
    SwappedTripletTask,
    calibration,
    cross_fitted,
    mined,
    swapped_pairs,
    with_projection,
)
from pipeline.types import FloatArray


class RRTSOPTask(SwappedTripletTask):
    """Learns to tell positives from hard negatives. A batch has rows (anchor, positive, negative, sides).

    Args:
        network: what is trained.
        tokens: of all N pictures, in the rows that `triplets` names.
        triplets: the miner.
        ids: of the N pictures.
        per_epoch: triplets per epoch.
        batch_size: triplets per step.
        turning: whether each step turns the descriptors, but not their places, by a random rotation.
    """

    def __init__(
        self,
        network: RRTSOPNetwork,
        tokens: MapTokens,
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
        width, device = self.network.shape.d_model, self.network.classifier.weight.device
        turn = torch.linalg.qr(torch.randn(width, width))[0] if self._turning else None
        logits = self.network(*(self._tokens.batch(side, turn, device) for side in (left, right)))
        return functional.binary_cross_entropy_with_logits(logits, truth.to(device))


class RRTSOPRecipe:
    """See `Recipe`. A network, and the maps of an index.

    From the comparing start a whitening within labels, fitted on the maps' means, projects their cells. Those of each
    half of the pictures are projected by what was fitted on the other: fitted on themselves, pictures of one label
    would look more alike than those of new photos ever do. What is kept has the projection that was fitted on
    everything: the transformer takes descriptors in any rotation. From the paper's start nothing is projected and
    nothing turned.

    Raises:
        MiningError: the labels give nothing to learn from.
        RelookError: the index has no whole maps, or its heads do not divide the width of its tokens.
    """

    def __init__(self, training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> None:
        model = settings.rrt_sop
        refuse_without_maps(training_set.card)
        comparing = model.start == "comparing"
        triplets, half = mined(training_set, settings.candidates, comparing)
        torch.manual_seed(seed)
        network = RRTSOPNetwork(shape_for(model, training_set.card.local_dimension))
        self._kept: Whitening | None = None
        if comparing:
            fit = partial(within_class_whitening, dimension=network.shape.d_model, shrinkage=model.shrinkage)
            project, self._kept = _start(network, training_set, half, fit)
            tokens = _tokens(network, training_set, project)
            calibrate(network, tokens, triplets.epoch(settings.triplets, np.random.default_rng(seed)))
        else:
            tokens = _tokens(network, training_set, lambda row, cells: cells)
        self.task = RRTSOPTask(
            network, tokens, triplets, training_set.ids, settings.triplets, settings.batch_size, comparing
        )
        self.reranker = RRTSOPReranker(network, training_set.card, device=device)
        self.anchors = len(triplets.anchors)

    def checkpoint(self) -> RerankCheckpoint:
        """See `Recipe.checkpoint`."""
        return with_projection(self.reranker.to_checkpoint(), "remap_local", self._kept)


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


def calibrate(network: RRTSOPNetwork, tokens: MapTokens, drawn: Rows) -> None:
    """Start the skip where the cosines of the maps' means alone say most, for these triplets [P, 3]."""
    calibrate_skip(network, *calibration(tokens.cells.whole, drawn))


def _start(
    network: RRTSOPNetwork, training_set: TrainingSet, half: Rows, fit: Fit
) -> tuple[Callable[[int, FloatArray], FloatArray], Whitening]:
    """Set the comparing start; gives the projection of a picture's cells by its row, and the one to keep."""
    means = means_of(training_set.source, training_set.ids)
    start_comparing_maps(network, fit(means, training_set.labels))
    others = cross_fitted(fit, means, training_set.labels, half)
    return lambda row, cells: others[half[row]].apply(cells), fit(
        means_of(training_set.source, training_set.everyone), training_set.everything[1]
    )


def _tokens(
    network: RRTSOPNetwork, training_set: TrainingSet, project: Callable[[int, FloatArray], FloatArray]
) -> MapTokens:
    cells, sizes = [], []
    for row, part in enumerate(read_maps(training_set.source, training_set.ids)):
        channels, height, width = part.shape
        cells.append(torch.from_numpy(project(row, part.reshape(channels, -1).T)))
        sizes.append((height, width))
    return MapTokens.of(network, cells, sizes)
