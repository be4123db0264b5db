"""Training of CVNet-Rerank from the feature maps of an index.

A recipe of `train-rerank`, fed by mined triplets. Lee et al., CVPR 2022, equations 5 and 6: cross-entropy on the two
logits of (anchor, positive) and (anchor, negative). Two things grow over the training ("Training with Hard Samples"):
the share of negatives that are among the global search's worst mistakes, and the cells that are hidden.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from pipeline.config import CVNetModelConfig, TrainRerankConfig
from pipeline.errors import RelookError
from pipeline.rerank.checkpoints import RerankCheckpoint
from pipeline.rerank.cvnet.network import CVLearner
from pipeline.rerank.cvnet.reranker import CVNetReranker
from pipeline.train.data.hide_and_seek import rising, shown
from pipeline.train.data.training_set import TrainingSet
from pipeline.train.data.triplets import Triplets
from pipeline.train.loop.task import Rows
from pipeline.train.rerankers.triplet_task import TripletTask
from pipeline.types import FeatureMaps, ModelCard

# Steps in which a row says the probability of a cell to be hidden.
_STEPS = 1000
_SEEDS = 2**62


@dataclass(frozen=True)
class Pairs:
    """P pairs of pictures whose maps have two sizes.

    Attributes:
        sizes: which of `Loaded.maps` hold the left and the right pictures.
        pictures: [P] each, their rows there.
        shown: [P, h, w] bool each, the cells that are not hidden.
        same: [P] int64, 1 where both show the same thing, else 0.
    """

    sizes: tuple[int, int]
    pictures: tuple[torch.Tensor, torch.Tensor]
    shown: tuple[torch.Tensor, torch.Tensor]
    same: torch.Tensor


@dataclass(frozen=True)
class Loaded:
    """A batch: the maps of its pictures, once each, [n, C, h_l, w_l] per size and level; and its pairs, by size."""

    maps: list[list[torch.Tensor]]
    pairs: list[Pairs]


class CVNetTask(TripletTask):
    """Learns to tell positives from negatives. A batch has rows (anchor, positive, negative, seed of masks, hidden).

    Args:
        reranker: whose learner and projection are trained.
        maps: reads the feature maps of pictures by id, on any thread.
        triplets: the miner.
        ids: of the N pictures, in the rows that `triplets` names.
        per_epoch: triplets per epoch.
        batch_size: triplets per step.
        curriculum: how negatives and masks grow.
    """

    def __init__(
        self,
        reranker: CVNetReranker,
        maps: Callable[[Sequence[str]], list[FeatureMaps]],
        triplets: Triplets,
        ids: Sequence[str],
        per_epoch: int,
        batch_size: int,
        curriculum: CVNetModelConfig,
    ) -> None:
        super().__init__(triplets, ids, per_epoch, batch_size)
        self.learner = reranker.learner
        self.projection = reranker.projection
        self._reranker = reranker
        self._maps = maps
        self._curriculum = curriculum
        self._epoch = (1, 1)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """See `Task.begin_epoch`."""
        self._epoch = (epoch, epochs)

    def plan(self, rng: np.random.Generator) -> list[Rows]:
        """See `Task.plan`; the last column is the probability of a cell to be hidden, in thousandths."""
        count, asked = self.per_epoch, self._curriculum
        hard = rng.random(count) < rising(asked.hard, *self._epoch, count)
        everyone = np.iinfo(np.int64).max
        drawn = self.triplets.epoch(count, rng, np.where(hard, asked.hardest, everyone))
        seeds = rng.integers(0, _SEEDS, count)
        hidden = np.rint(_STEPS * rising(asked.hide, *self._epoch, count)).astype(np.int64)
        rows = np.column_stack([drawn, seeds, hidden])
        return self.batches(rows)

    def load(self, rows: Rows) -> Loaded:
        """See `Task.load`; reads each picture of the batch once."""
        pictures = np.unique(rows[:, :3])
        items = dict(zip(pictures.tolist(), self._maps([self.ids[row] for row in pictures]), strict=True))
        kinds: dict[tuple[tuple[int, ...], ...], list[int]] = defaultdict(list)
        for row, item in items.items():
            kinds[tuple(level.shape for level in item)].append(row)
        places = {row: (kind, place) for kind, found in enumerate(kinds.values()) for place, row in enumerate(found)}
        sizes = [(max(level[1] for level in kind), max(level[2] for level in kind)) for kind in kinds]
        maps = [
            [torch.from_numpy(np.stack(level)) for level in zip(*(items[row] for row in found), strict=True)]
            for found in kinds.values()
        ]
        return Loaded(maps, _pairs(rows, places, sizes))

    def forward(self, loaded: Loaded) -> torch.Tensor:
        """See `Task.forward`."""
        expanded = [self._reranker.expanded_levels(levels) for levels in loaded.maps]
        device = expanded[0].device
        losses = []
        for pairs in loaded.pairs:
            left, right = (
                expanded[size][pictures.to(device)] * seen.to(device)[:, None, None]
                for size, pictures, seen in zip(pairs.sizes, pairs.pictures, pairs.shown, strict=True)
            )
            logits = self.learner(left, right)
            losses.append(functional.cross_entropy(logits.float(), pairs.same.to(device), reduction="none"))
        return torch.cat(losses).mean()


class CVNetRecipe:
    """See `Recipe`. A network of the paper's size, and the maps of an index to learn from.

    Raises:
        MiningError: the labels give nothing to learn from.
        RelookError: the index has no maps, or maps that were projected already where they should be here.
    """

    def __init__(self, training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> None:
        model = settings.cvnet
        levels = _levels(training_set.card, model)
        triplets = Triplets(
            training_set.labels, training_set.answers(settings.candidates, None), [0] * len(training_set.ids)
        )
        torch.manual_seed(seed)
        learner = CVLearner(levels)
        projection = None
        if model.project:
            channels = training_set.card.maps.channels
            assert channels is not None  # a describer's card says it; `_levels` refuses others
            projection = nn.ModuleList([_convolution(channels, model.channels) for _ in range(levels)])
        self.reranker = CVNetReranker(learner, projection, training_set.card, device=device)
        self.task = CVNetTask(
            self.reranker,
            training_set.source.maps,
            triplets,
            training_set.ids,
            settings.triplets,
            settings.batch_size,
            model,
        )
        self.anchors = len(triplets.anchors)

    def checkpoint(self) -> RerankCheckpoint:
        """See `Recipe.checkpoint`."""
        return self.reranker.to_checkpoint()


class _Seen(NamedTuple):
    """A picture in a pair: which maps hold it, its row there, and the cells that are not hidden."""

    size: int
    row: int
    shown: npt.NDArray[np.bool_]


def _pairs(rows: Rows, places: dict[int, tuple[int, int]], sizes: Sequence[tuple[int, int]]) -> list[Pairs]:
    """Each row's two pairs, those of like sizes together; of an anchor the same cells are hidden in both."""
    alike: dict[tuple[int, int], list[tuple[_Seen, _Seen, int]]] = defaultdict(list)
    for *pictures, seed, hidden in rows.tolist():
        anchor, positive, negative = (
            _Seen(size, row, shown(seed + number, hidden / _STEPS, sizes[size]))
            for number, (size, row) in enumerate(places[picture] for picture in pictures)
        )
        for other, same in ((positive, 1), (negative, 0)):
            alike[anchor.size, other.size].append((anchor, other, same))
    found = []
    for kinds, drawn in alike.items():
        left, right, truth = zip(*drawn, strict=True)
        (left_rows, left_shown), (right_rows, right_shown) = _stacked(left), _stacked(right)
        found.append(Pairs(kinds, (left_rows, right_rows), (left_shown, right_shown), torch.tensor(truth)))
    return found


def _stacked(side: Sequence[_Seen]) -> tuple[torch.Tensor, torch.Tensor]:
    shown_cells = torch.from_numpy(np.stack([picture.shown for picture in side]))
    return torch.tensor([picture.row for picture in side]), shown_cells


def _levels(card: ModelCard, model: CVNetModelConfig) -> int:
    """How many levels of maps an index has. Raises RelookError where there are none, or none to be projected."""
    maps = card.maps
    levels = len(maps.levels)
    if not levels:
        raise RelookError("cvnet learns from feature maps; extract with --set describe.maps.levels=[0.25,0.5,1.0]")
    if model.project and maps.projected_by:
        raise RelookError(
            "train_rerank.cvnet.project = true: the maps of the index were projected by a checkpoint when extracting; "
            "set it to false"
        )
    return levels


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """Begins as a random projection of each cell alone, which keeps what is alike alike."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[:, :, 1, 1] = nn.init.orthogonal_(torch.empty(outputs, inputs))
    return convolution
