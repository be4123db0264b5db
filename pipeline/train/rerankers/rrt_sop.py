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
from pipeline.train.data.hold_out import halves
from pipeline.train.data.map_tokens import MapTokens, means_of, read_maps
from pipeline.train.data.training_set import TrainingSet
from pipeline.train.data.triplets import Triplets
from pipeline.train.init.rrt import calibrate_skip, start_comparing_maps
from pipeline.train.init.whitening import Whitening, within_class_whitening
from pipeline.train.loop.task import Rows, Task
from pipeline.types import FloatArray


class RRTSOPTask(Task):
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
        super().__init__()
        self.network = network
        self._tokens = tokens
        self._triplets = triplets
        self._ids = ids
        self._per_epoch = per_epoch
        self._batch_size = batch_size
        self._turning = turning

    def plan(self, rng: np.random.Generator) -> list[Rows]:
        """See `Task.plan`; two bits of the fourth column say which pairs are turned round."""
        drawn = self._triplets.epoch(self._per_epoch, rng)
        drawn = np.column_stack([drawn, rng.integers(0, 4, len(drawn))])
        return np.split(drawn, range(self._batch_size, len(drawn), self._batch_size))

    def names(self, rows: Rows) -> list[str]:
        """See `Task.names`."""
        return [self._ids[row] for row in rows[:, :3].flatten().tolist()]

    def forward(self, rows: Rows) -> torch.Tensor:
        """See `Task.forward`."""
        left, right, truth = pairs_of(torch.from_numpy(rows))
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

    def __init__(self, lesson: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> None:
        model = settings.rrt_sop
        refuse_without_maps(lesson.card)
        comparing = model.start == "comparing"
        half = halves(lesson.labels, lesson.vectors) if comparing else np.zeros(len(lesson.ids), np.int64)
        triplets = Triplets(lesson.labels, lesson.answers(settings.candidates, half), half.tolist())
        torch.manual_seed(seed)
        network = RRTSOPNetwork(shape_for(model, lesson.card.local_dimension))
        self._kept: Whitening | None = None
        if comparing:
            fit = partial(within_class_whitening, dimension=network.shape.d_model, shrinkage=model.shrinkage)
            project, self._kept = _start(network, lesson, half, fit)
            tokens = _tokens(network, lesson, project)
            calibrate(network, tokens, triplets.epoch(settings.triplets, np.random.default_rng(seed)))
        else:
            tokens = _tokens(network, lesson, lambda row, cells: cells)
        self.task = RRTSOPTask(network, tokens, triplets, lesson.ids, settings.triplets, settings.batch_size, comparing)
        self.reranker = RRTSOPReranker(network, lesson.card, device=device)
        self.anchors = len(triplets.anchors)

    def checkpoint(self) -> RerankCheckpoint:
        """See `Recipe.checkpoint`."""
        checkpoint = self.reranker.to_checkpoint()
        if self._kept is not None:
            checkpoint.state["remap_local.weight"] = torch.from_numpy(self._kept.weight)
            checkpoint.state["remap_local.bias"] = torch.from_numpy(self._kept.bias)
        return checkpoint


def pairs_of(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs of triplets [B, 4] (anchor, positive, negative, sides): both sides [2 B], and 1 or 0 [2 B] float32."""
    anchor, positive, negative, sides = rows.unbind(1)
    left, right = torch.cat([anchor, anchor]), torch.cat([positive, negative])
    swap = torch.cat([sides % 2, sides // 2]).bool()
    truth = torch.cat([torch.ones(len(anchor)), torch.zeros(len(anchor))])
    return torch.where(swap, right, left), torch.where(swap, left, right), truth


def shape_for(model: RRTSOPModelConfig, channels: int) -> RRTSOPShape:
    """The sizes of a network for maps of so many channels. Raises RelookError where they do not fit together."""
    width = min(model.width, channels) if model.start == "comparing" else channels
    if width % model.heads or width % 2:
        raise RelookError(
            f"train_rerank.rrt_sop.heads = {model.heads}: tokens of {width} values cannot be divided among so many "
            "(train_rerank.rrt_sop.width and describe.locals.dimension say how wide they are)"
        )
    shape = RRTSOPShape(width, model.heads, model.layers, model.feedforward, model.dropout)
    if model.start == "paper":
        return shape
    return replace(shape, d_local=channels, token_length=width**0.5, symmetric=True, skip=True)


def calibrate(network: RRTSOPNetwork, tokens: MapTokens, drawn: Rows) -> None:
    """Start the skip where the cosines of the maps' means alone say most, for these triplets [P, 3]."""
    unit = functional.normalize(tokens.cells.whole, dim=1)
    anchor, positive, negative = (unit[rows] for rows in torch.from_numpy(drawn).unbind(1))
    cosines = torch.cat([(anchor * positive).sum(dim=1), (anchor * negative).sum(dim=1)])
    calibrate_skip(network, cosines, torch.cat([torch.ones(len(anchor)), torch.zeros(len(anchor))]))


def _start(
    network: RRTSOPNetwork, lesson: TrainingSet, half: Rows, fit: Callable[[FloatArray, Sequence[str]], Whitening]
) -> tuple[Callable[[int, FloatArray], FloatArray], Whitening]:
    """Set the comparing start; gives the projection of a picture's cells by its row, and the one to keep."""
    means = means_of(lesson.source, lesson.ids)
    start_comparing_maps(network, fit(means, lesson.labels))
    others = [
        fit(means, [label if half[row] != side else "" for row, label in enumerate(lesson.labels)]) for side in (0, 1)
    ]
    return lambda row, cells: others[half[row]].apply(cells), fit(
        means_of(lesson.source, lesson.everyone), lesson.everything[1]
    )


def _tokens(network: RRTSOPNetwork, lesson: TrainingSet, project: Callable[[int, FloatArray], FloatArray]) -> MapTokens:
    cells, sizes = [], []
    for row, part in enumerate(read_maps(lesson.source, lesson.ids)):
        channels, height, width = part.shape
        cells.append(torch.from_numpy(project(row, part.reshape(channels, -1).T)))
        sizes.append((height, width))
    return MapTokens.of(network, cells, sizes)
