"""Training of the Reranking Transformer from stored descriptors.

A recipe of `train-rerank`, fed by mined triplets. Tan, Yuan, Ordonez, ICCV 2021, section 3.3: binary cross-entropy on
the logits of (anchor, positive) and (anchor, negative); here either side comes first as often, because the network is
not symmetric. From its comparing start every step also turns the descriptors by a random rotation, so that only their
likeness can be learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from pipeline.train.data.hold_out import halves
from pipeline.train.data.training_set import TrainingSet
from pipeline.train.data.triplets import Triplets
from pipeline.train.init.rrt import calibrate_skip, start_comparing
from pipeline.train.init.whitening import Whitening, within_class_whitening
from pipeline.train.loop.task import Rows, Task
from pipeline.types import Description, FloatArray, ModelCard


class RRTTask(Task):
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
        anchor, positive, negative, sides = torch.from_numpy(rows).unbind(1)
        left, right = torch.cat([anchor, anchor]), torch.cat([positive, negative])
        swap = torch.cat([sides % 2, sides // 2]).bool()
        left, right = torch.where(swap, right, left), torch.where(swap, left, right)
        source, target = self._tokens[left], self._tokens[right]
        if self._turning:
            width = self.network.shape.d_model
            turns = [torch.linalg.qr(torch.randn(width, width))[0] for _ in range(2)]
            source, target = _turned(source, *turns), _turned(target, *turns)
        device = self.network.remap.weight.device
        logits = self.network(source.to(device), target.to(device), remapped=self._turning)
        truth = torch.cat([torch.ones(len(anchor)), torch.zeros(len(anchor))]).to(device)
        return functional.binary_cross_entropy_with_logits(logits, truth)


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

    def __init__(self, lesson: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> None:
        card, model = lesson.card, settings.rrt
        if not card.local_dimension:
            raise RelookError("rrt learns from local descriptors; extract with --set describe.locals.count=50")
        comparing = model.start == "comparing"
        half = halves(lesson.labels, lesson.vectors) if comparing else np.zeros(len(lesson.ids), np.int64)
        triplets = Triplets(lesson.labels, lesson.answers(settings.candidates, half), half.tolist())
        torch.manual_seed(seed)
        network = RRTNetwork(_shape(model, card))
        described = [
            Description(vector, part)
            for vector, part in zip(lesson.vectors, lesson.source.locals(lesson.ids), strict=True)
        ]
        tokens = tokens_of(described, network.shape)
        self._kept: Whitening | None = None
        if comparing:
            fit = partial(within_class_whitening, dimension=network.shape.d_model, shrinkage=model.shrinkage)
            start_comparing(network, fit(lesson.vectors, lesson.labels))
            projected = _cross_fitted(lesson, half, fit)
            _calibrate(network, projected, triplets.epoch(settings.triplets, np.random.default_rng(seed)))
            tokens = replace(tokens, vector=torch.from_numpy(projected))
            self._kept = fit(*lesson.everything)
        self.task = RRTTask(network, tokens, triplets, lesson.ids, settings.triplets, settings.batch_size, comparing)
        self.reranker = RRTReranker(network, card, device=device)
        self.anchors = len(triplets.anchors)

    def checkpoint(self) -> RerankCheckpoint:
        """See `Recipe.checkpoint`."""
        checkpoint = self.reranker.to_checkpoint()
        if self._kept is not None:
            checkpoint.state["remap.weight"] = torch.from_numpy(self._kept.weight)
            checkpoint.state["remap.bias"] = torch.from_numpy(self._kept.bias)
        return checkpoint


def _shape(model: RRTModelConfig, card: ModelCard) -> RRTShape:
    options: dict[str, Any] = model.model_dump(exclude={"shrinkage", "start"})
    if model.start == "comparing":
        options |= {"token_length": card.local_dimension**0.5, "symmetric": True, "skip": True}
    return RRTShape(d_global=card.dimension, d_model=card.local_dimension, scale_rule="nearest", **options)


def _cross_fitted(lesson: TrainingSet, half: Rows, fit: Callable[..., Whitening]) -> FloatArray:
    """[N, d_model] globals, each half projected by what was fitted on the other."""
    parts = {}
    for side in (0, 1):
        others = [label if half[row] != side else "" for row, label in enumerate(lesson.labels)]
        parts[side] = fit(lesson.vectors, others).apply(lesson.vectors)
    return np.where(half[:, None] == 0, parts[0], parts[1])


def _calibrate(network: RRTNetwork, projected: FloatArray, drawn: Rows) -> None:
    unit = functional.normalize(torch.from_numpy(projected), dim=1)
    anchor, positive, negative = (unit[rows] for rows in torch.from_numpy(drawn).unbind(1))
    cosines = torch.cat([(anchor * positive).sum(dim=1), (anchor * negative).sum(dim=1)])
    calibrate_skip(network, cosines, torch.cat([torch.ones(len(anchor)), torch.zeros(len(anchor))]))


def _turned(tokens: Tokens, global_turn: torch.Tensor, local_turn: torch.Tensor) -> Tokens:
    return Tokens(tokens.vector @ global_turn, tokens.locals @ local_turn, tokens.scale, tokens.padding)
