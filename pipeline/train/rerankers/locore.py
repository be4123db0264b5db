"""Training of LoCoRe from stored descriptors.

A recipe of `train-rerank`, trained on lists of candidates. Xiao et al., CVPR 2025: cross-entropy of the two classes
(the same thing as the query or not) on every token of every candidate; the candidates come in a random order.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from pipeline.config import LoCoReModelConfig, TrainRerankConfig
from pipeline.rerank.checkpoints import RerankCheckpoint
from pipeline.rerank.locore.network import ImageLists, LoCoReNetwork
from pipeline.rerank.locore.reranker import LoCoReReranker
from pipeline.rerank.locore.shape import FIRST_POSITION, LoCoReShape
from pipeline.rerank.pair_reranker import refuse_without_locals
from pipeline.train.data.candidate_lists import CandidateLists
from pipeline.train.data.stored_descriptions import StoredDescriptions
from pipeline.train.data.training_set import TrainingSet
from pipeline.train.init.locore import calibrate, start_comparing
from pipeline.train.init.whitening import Whitening, within_class_whitening
from pipeline.train.loop.task import Rows, TrainingTask
from pipeline.types import ModelCard

# Local descriptors that whitening is fitted on, and lists that the classifier is calibrated on.
_FITTED, _CALIBRATED = 1 << 16, 16


class LabelledLists(NamedTuple):
    """B lists with G candidates, and which of these are of the query's label, [B, G] bool."""

    lists: ImageLists
    truth: torch.Tensor


class LoCoReTask(TrainingTask):
    """Cross-entropy of the two classes on the tokens of candidates; those of the query and separators have no loss.

    A batch has rows (anchor, candidates): [B, 1 + G].

    Args:
        reranker: its network is trained.
        lists: the miner.
        stored: the descriptions of all N images, in the rows that `lists` names.
        training_set: gives labels and ids of the N images.
        settings: of the training; `triplets` are lists here.
    """

    def __init__(
        self,
        reranker: LoCoReReranker,
        lists: CandidateLists,
        stored: StoredDescriptions,
        training_set: TrainingSet,
        settings: TrainRerankConfig,
    ) -> None:
        super().__init__()
        self.network, self.lists, self.ids = reranker.network, lists, training_set.ids
        self.reranker, self._stored = reranker, stored
        self._numbers = np.unique(np.array(training_set.labels), return_inverse=True)[1]
        self._per_epoch, self._batch_size = settings.triplets, settings.batch_size

    def plan(self, rng: np.random.Generator) -> list[Rows]:
        """See `TrainingTask.plan`."""
        rows = self.lists.epoch(self._per_epoch, rng)
        return np.split(rows, range(self._batch_size, len(rows), self._batch_size))

    def load(self, rows: Rows) -> LabelledLists:
        """See `TrainingTask.load`."""
        images = self._stored.read(rows.flatten())
        count = rows.shape[1]
        parts = [self.reranker.lists_of(images[start : start + count]) for start in range(0, len(images), count)]
        truth = torch.from_numpy(self._numbers[rows[:, 1:]] == self._numbers[rows[:, :1]])
        return LabelledLists(ImageLists.joined(parts), truth)

    def forward(self, loaded: LabelledLists) -> torch.Tensor:
        """See `TrainingTask.forward`."""
        device = self.network.scale_encoder.weight.device
        lists, truth = loaded.lists.to(device), loaded.truth.to(device).long()
        tokens = self.network.candidate_tokens(truth.shape[1]).to(device)
        logits = self.network(lists, tokens.flatten()).view(len(truth), *tokens.shape, 2)
        classes = truth.unsqueeze(2).expand(logits.shape[:3])
        there = self.network.descriptors_there(lists)
        return functional.cross_entropy(logits[there], classes[there])

    def names(self, rows: Rows) -> list[str]:
        """See `TrainingTask.names`."""
        return [self.ids[row] for row in rows.flatten().tolist()]


class LoCoReRecipe:
    """See `Recipe`. Trains a network on the stored descriptors of an index.

    Raises:
        MiningError: the labels give no lists.
        RelookError: the index has no locals, or not the scales of them.
    """

    task: LoCoReTask
    reranker: LoCoReReranker
    temperatures: tuple[float, ...] = (0.25, 1.0)

    def __init__(self, training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> None:
        card, model = training_set.card, settings.locore
        refuse_without_locals(card, "locore", geometry=len(card.locals.scales) > 1)
        found = training_set.candidates(settings.candidates, None)
        lists = CandidateLists(training_set.labels, found, model.candidates, model.positives)
        torch.manual_seed(seed)
        network = LoCoReNetwork(shape_for(model, card))
        stored = StoredDescriptions(training_set.source, training_set.ids, training_set.vectors, model.locals)
        self.reranker = LoCoReReranker(network, card)
        self.task = LoCoReTask(self.reranker, lists, stored, training_set, settings)
        if model.start == "comparing":
            side = start_comparing(network, *_whitenings(training_set, stored, model))
            calibrate(network, side, *self.task.load(lists.epoch(_CALIBRATED, np.random.default_rng(seed))))
        self.reranker = self.task.reranker = LoCoReReranker(network, card, device=device)

    @property
    def anchors(self) -> int:
        """See `Recipe.anchors`."""
        return len(self.task.lists.anchors)

    def checkpoint(self) -> RerankCheckpoint:
        """See `Recipe.checkpoint`."""
        return self.reranker.to_checkpoint()


def shape_for(model: LoCoReModelConfig, card: ModelCard) -> LoCoReShape:
    """The sizes of a network for the descriptors of `card`; both kinds are projected."""
    images = 1 + model.candidates
    rows = images * (model.locals + 2) if model.positions == "absolute" else images
    return LoCoReShape(
        width=model.width,
        d_local=card.local_dimension,
        d_global=card.dimension,
        layers=model.layers,
        heads=model.heads,
        feedforward=model.feedforward,
        windows=(model.window,) * model.layers,
        positions=FIRST_POSITION + rows,
        position_rule=model.positions,
        scales=len(card.locals.scales),
        project_local=True,
        project_global=True,
        locals=model.locals,
        candidates=model.candidates,
        aggregation=model.aggregation,
        padding_counts=False,
    )


def _whitenings(
    training_set: TrainingSet, stored: StoredDescriptions, model: LoCoReModelConfig
) -> tuple[Whitening, Whitening]:
    """Of local and of global descriptors, to the width of tokens."""
    card, labels = training_set.card, training_set.labels
    images = np.random.default_rng(0).permutation(len(labels))[: max(1, _FITTED // model.locals)]
    parts = [image.locals.descriptors for image in stored.read(images) if image.locals is not None]
    names = [labels[row] for row, part in zip(images.tolist(), parts, strict=True) for _ in part]
    fit = partial(within_class_whitening, shrinkage=model.shrinkage)
    return (
        fit(np.concatenate(parts), names, min(model.width, card.local_dimension)),
        fit(training_set.vectors, labels, min(model.width, card.dimension)),
    )
