"""Training of the Reranking Transformer from stored descriptors.

A recipe of `train-rerank`, fed by mined triplets. Tan, Yuan, Ordonez, ICCV 2021, section 3.3: binary cross-entropy on
the logits of (anchor, positive) and (anchor, negative); here either side comes first as often, because the network is
not symmetric, and every step turns the descriptors by a random rotation, so that only their likeness can be learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.config import RRTModelConfig, TrainRerankConfig
from pipeline.errors import RelookError
from pipeline.rerank.checkpoints import RerankCheckpoint
from pipeline.rerank.rrt import RRTReranker, tokens_of
from pipeline.rerank.rrt_network import RRTNetwork, RRTShape, Tokens
from pipeline.train.lesson import Lesson
from pipeline.train.rrt_start import calibrate_skip, start_comparing
from pipeline.train.sessions import halves
from pipeline.train.task import Rows, Task
from pipeline.train.triplets import Triplets
from pipeline.train.whitening import within_class_whitening
from pipeline.types import Description, FloatArray, ModelCard


class RRTTask(Task):
    """Learns to tell positives from hard negatives. A batch has rows (anchor, positive, negative, sides).

    Args:
        network: what is trained; its projection of the globals is not.
        tokens: of all N pictures, in the rows that `triplets` names; the globals are projected to [N, d_model] already,
            each by a projection that was fitted without it, so that they look as those of new photos will.
        triplets: the miner.
        ids: of the N pictures.
        per_epoch: triplets per epoch.
        batch_size: triplets per step.
    """

    def __init__(
        self,
        network: RRTNetwork,
        tokens: Tokens,
        triplets: Triplets,
        ids: Sequence[str],
        per_epoch: int,
        batch_size: int,
    ) -> None:
        super().__init__()
        self.network = network
        self._tokens = tokens
        self._triplets = triplets
        self._ids = ids
        self._per_epoch = per_epoch
        self._batch_size = batch_size

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
        anchor, positive, negative, sides = torch.from_numpy(rows).unbind(1)
        left, right = torch.cat([anchor, anchor]), torch.cat([positive, negative])
        swap = torch.cat([sides % 2, sides // 2]).bool()
        left, right = torch.where(swap, right, left), torch.where(swap, left, right)
        width = self.network.shape.d_model
        turns = [torch.linalg.qr(torch.randn(width, width))[0] for _ in range(2)]
        device = self.network.remap.weight.device
        source, target = (_turned(self._tokens[rows], *turns).to(device) for rows in (left, right))
        logits = self.network(source, target, remapped=True)
        truth = torch.cat([torch.ones(len(anchor)), torch.zeros(len(anchor))]).to(device)
        return functional.binary_cross_entropy_with_logits(logits, truth)


class RRTRecipe:
    """See `Recipe`. A network that can compare, and descriptors to learn from.

    The globals of each half of the pictures are projected by a whitening that was fitted on the other: fitted on
    themselves, pictures of one label would look more alike than those of new photos ever do. What is kept has the
    projection that was fitted on everything: the transformer takes descriptors in any rotation.

    Raises:
        MiningError: the labels give nothing to learn from.
        RelookError: the index has no locals.
    """

    def __init__(self, lesson: Lesson, settings: TrainRerankConfig, seed: int, device: str) -> None:
        card, model = lesson.card, settings.rrt
        if not card.local_dimension:
            raise RelookError("rrt learns from local descriptors; extract with --set describe.locals.count=50")
        half = halves(lesson.labels, lesson.vectors)
        triplets = Triplets(lesson.labels, lesson.answers(settings.candidates, half), half.tolist())
        torch.manual_seed(seed)
        network = RRTNetwork(_shape(model, card))
        width = network.shape.d_model
        start_comparing(network, within_class_whitening(lesson.vectors, lesson.labels, width, model.shrinkage))
        projected = _cross_fitted(lesson, half, width, model.shrinkage)
        _calibrate(network, projected, triplets.epoch(settings.triplets, np.random.default_rng(seed)))
        described = [
            Description(vector, part)
            for vector, part in zip(lesson.vectors, lesson.source.locals(lesson.ids), strict=True)
        ]
        tokens = replace(tokens_of(described, network.shape), vector=torch.from_numpy(projected))
        self.task = RRTTask(network, tokens, triplets, lesson.ids, settings.triplets, settings.batch_size)
        self.reranker = RRTReranker(network, card, device=device)
        self.anchors = len(triplets.anchors)
        vectors, labels = lesson.everything
        self._whole = within_class_whitening(vectors, labels, width, model.shrinkage)

    def checkpoint(self) -> RerankCheckpoint:
        """See `Recipe.checkpoint`."""
        checkpoint = self.reranker.to_checkpoint()
        checkpoint.state["remap.weight"] = torch.from_numpy(self._whole.weight)
        checkpoint.state["remap.bias"] = torch.from_numpy(self._whole.bias)
        return checkpoint


def _shape(model: RRTModelConfig, card: ModelCard) -> RRTShape:
    options: dict[str, Any] = model.model_dump(exclude={"shrinkage"})
    return RRTShape(
        d_global=card.dimension,
        d_model=card.local_dimension,
        scale_rule="nearest",
        token_length=card.local_dimension**0.5,
        symmetric=True,
        skip=True,
        **options,
    )


def _cross_fitted(lesson: Lesson, half: Rows, width: int, shrinkage: float) -> FloatArray:
    projected = np.empty((len(lesson.ids), width), np.float32)
    for side in (0, 1):
        others = [label if half[row] != side else "" for row, label in enumerate(lesson.labels)]
        whitening = within_class_whitening(lesson.vectors, others, width, shrinkage)
        projected[half == side] = whitening.apply(lesson.vectors[half == side])
    return projected


def _calibrate(network: RRTNetwork, projected: FloatArray, drawn: Rows) -> None:
    unit = functional.normalize(torch.from_numpy(projected), dim=1)
    anchor, positive, negative = (unit[rows] for rows in torch.from_numpy(drawn).unbind(1))
    cosines = torch.cat([(anchor * positive).sum(dim=1), (anchor * negative).sum(dim=1)])
    calibrate_skip(network, cosines, torch.cat([torch.ones(len(anchor)), torch.zeros(len(anchor))]))


def _turned(tokens: Tokens, global_turn: torch.Tensor, local_turn: torch.Tensor) -> Tokens:
    return Tokens(tokens.vector @ global_turn, tokens.locals @ local_turn, tokens.scale, tokens.padding)
