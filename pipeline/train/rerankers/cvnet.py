"""Training of CVNet-Rerank from the feature maps of an index.

A recipe of `train-rerank`, trained on mined triplets. Lee et al., CVPR 2022, equations 5 and 6: cross-entropy on the
two logits of (anchor, positive) and (anchor, negative). Two numbers grow over the training ("Training with Hard
Samples"): the share of the hardest negatives of the global search, and the share of masked cells.
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
from pipeline.rerank.cvnet.network import CVLearner
from pipeline.rerank.cvnet.reranker import CVNetReranker
from pipeline.train.data.hide_and_seek import linear_ramp, visible_cells
from pipeline.train.data.training_set import TrainingSet
from pipeline.train.data.triplets import Triplets
from pipeline.train.loop.task import Rows
from pipeline.train.rerankers.triplet_task import TripletRecipe, TripletTask, mine_triplets
from pipeline.types import FeatureMaps, ModelCard

# A row has the probability of a cell to be masked in thousandths.
_STEPS = 1000
_SEEDS = 2**62


@dataclass(frozen=True)
class Pairs:
    """P pairs of images whose maps have two sizes.

    Attributes:
        sizes: the places in `Loaded.maps` of the left and the right images.
        images: [P] each, their rows there.
        visible: [P, h, w] bool each, the cells that are not masked.
        same: [P] int64, 1 for a pair of one label, else 0.
    """

    sizes: tuple[int, int]
    images: tuple[torch.Tensor, torch.Tensor]
    visible: tuple[torch.Tensor, torch.Tensor]
    same: torch.Tensor


@dataclass(frozen=True)
class Loaded:
    """A batch: the maps of its images, once each, [n, C, h_l, w_l] per size and level; and its pairs by size."""

    maps: list[list[torch.Tensor]]
    pairs: list[Pairs]


class CVNetTask(TripletTask):
    """Cross-entropy on pairs. A batch has rows (anchor, positive, negative, seed of masks, masked share).

    Args:
        reranker: its learner and projection are trained.
        maps: reads the feature maps of images by id; thread-safe.
        triplets: the miner.
        ids: of the N images, in the rows that `triplets` names.
        per_epoch: triplets per epoch.
        batch_size: triplets per step.
        curriculum: first and last share of hard negatives and of masked cells.
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
        """See `TrainingTask.begin_epoch`."""
        self._epoch = (epoch, epochs)

    def plan(self, rng: np.random.Generator) -> list[Rows]:
        """See `TrainingTask.plan`; the last column is the probability of a cell to be masked, in thousandths."""
        count, curriculum = self.per_epoch, self._curriculum
        hard = rng.random(count) < linear_ramp(curriculum.hard, *self._epoch, count)
        all_negatives = np.iinfo(np.int64).max
        drawn = self.triplets.epoch(count, rng, np.where(hard, curriculum.hardest, all_negatives))
        seeds = rng.integers(0, _SEEDS, count)
        hidden = np.rint(_STEPS * linear_ramp(curriculum.hide, *self._epoch, count)).astype(np.int64)
        rows = np.column_stack([drawn, seeds, hidden])
        return self.batches(rows)

    def load(self, rows: Rows) -> Loaded:
        """See `TrainingTask.load`; reads each image of the batch once."""
        images = np.unique(rows[:, :3])
        items = dict(zip(images.tolist(), self._maps([self.ids[row] for row in images]), strict=True))
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
        """See `TrainingTask.forward`."""
        expanded = [self._reranker.expanded_levels(levels) for levels in loaded.maps]
        device = expanded[0].device
        losses = []
        for pairs in loaded.pairs:
            left, right = (
                expanded[size][images.to(device)] * visible.to(device)[:, None, None]
                for size, images, visible in zip(pairs.sizes, pairs.images, pairs.visible, strict=True)
            )
            logits = self.learner(left, right)
            losses.append(functional.cross_entropy(logits.float(), pairs.same.to(device), reduction="none"))
        return torch.cat(losses).mean()


class CVNetRecipe(TripletRecipe):
    """See `Recipe`. Trains a network of the paper's size on the maps of an index.

    Raises:
        MiningError: the labels give no triplets.
        RelookError: the index has no maps, or `cvnet.project` is set and they are projected already.
    """

    task: CVNetTask
    reranker: CVNetReranker

    def __init__(self, training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> None:
        model = settings.cvnet
        levels = _levels(training_set.card, model)
        triplets = mine_triplets(training_set, settings.candidates)
        torch.manual_seed(seed)
        learner = CVLearner(levels)
        projection = None
        if model.project:
            channels = training_set.card.maps.channels
            assert channels is not None  # a describer's card has it; `_levels` refuses other cards
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


class _MaskedImage(NamedTuple):
    """An image of a pair: the place of its maps in `Loaded.maps`, its row there, and the cells that are not masked."""

    size: int
    row: int
    visible: npt.NDArray[np.bool_]


def _pairs(rows: Rows, places: dict[int, tuple[int, int]], sizes: Sequence[tuple[int, int]]) -> list[Pairs]:
    """Each row's two pairs, grouped by the sizes of their maps; an anchor has the same mask in both."""
    by_sizes: dict[tuple[int, int], list[tuple[_MaskedImage, _MaskedImage, int]]] = defaultdict(list)
    for *images, seed, hidden in rows.tolist():
        anchor, positive, negative = (
            _MaskedImage(size, row, visible_cells(seed + number, hidden / _STEPS, sizes[size]))
            for number, (size, row) in enumerate(places[image] for image in images)
        )
        for other, same in ((positive, 1), (negative, 0)):
            by_sizes[anchor.size, other.size].append((anchor, other, same))
    found = []
    for kinds, drawn in by_sizes.items():
        left, right, truth = zip(*drawn, strict=True)
        (left_rows, left_visible), (right_rows, right_visible) = _stack(left), _stack(right)
        found.append(Pairs(kinds, (left_rows, right_rows), (left_visible, right_visible), torch.tensor(truth)))
    return found


def _stack(side: Sequence[_MaskedImage]) -> tuple[torch.Tensor, torch.Tensor]:
    visible = torch.from_numpy(np.stack([image.visible for image in side]))
    return torch.tensor([image.row for image in side]), visible


def _levels(card: ModelCard, model: CVNetModelConfig) -> int:
    """The number of levels of an index's maps. Raises RelookError if it is 0, or they cannot be projected again."""
    maps = card.maps
    levels = len(maps.levels)
    if not levels:
        raise RelookError("cvnet is trained on feature maps; extract with --set describe.maps.levels=[0.25,0.5,1.0]")
    if model.project and maps.projected_by:
        raise RelookError(
            "train_rerank.cvnet.project = true: the maps of the index were projected by a checkpoint when extracting; "
            "set it to false"
        )
    return levels


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """Initialised as a random projection of each cell alone, which keeps similarities."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[:, :, 1, 1] = nn.init.orthogonal_(torch.empty(outputs, inputs))
    return convolution
