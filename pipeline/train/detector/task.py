"""Training of AMES's detector from stored maps: triplets of images, each described by the mean of its weighted cells.

The task of `train-detector`. Suma et al., ECCV 2024 and ICLR 2026; the authors' ELViS repository has a training script.
As there: the backbone is frozen, an image is the mean over the cells of one scale of weight times unit descriptor, at
unit length, a triplet has a positive and a hard negative from the candidates of the global search. The script takes its
loss from a module, and its figures from a configuration, that were not released; the triplet loss here is relook's
choice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.config import TrainDetectorConfig
from pipeline.describe.detector import Detector
from pipeline.errors import RelookError
from pipeline.train.data.stored_locals import Side, StoredLocals
from pipeline.train.data.triplets import Triplets
from pipeline.train.loop.task import Rows
from pipeline.train.rerankers.triplet_task import TripletTask
from pipeline.types import DescriptorSource, FloatArray, ModelCard

# Images that are described at once outside of training.
_CHUNK = 64
# More than the cells of any map.
_ALL = 1 << 30
_REMEDY = "extract with describe.locals.kind=map, describe.locals.scales=[1.0] and describe.locals.dimension=null"


class DetectorTask(TripletTask):
    """A batch has rows (anchor, positive, negative).

    Each process, and each part of an accumulated batch, has batch statistics of its own.

    Args:
        detector: is trained.
        stored: the cells of all N maps, in the rows that `triplets` names.
        triplets: the miner.
        ids: of the N images.
        settings: of the training.
    """

    def __init__(
        self,
        detector: Detector,
        stored: StoredLocals,
        triplets: Triplets,
        ids: Sequence[str],
        settings: TrainDetectorConfig,
    ) -> None:
        super().__init__(triplets, ids, settings.triplets, settings.batch_size)
        self.detector = detector
        self._stored, self._margin = stored, settings.margin

    def plan(self, rng: np.random.Generator) -> list[Rows]:
        """See `TrainingTask.plan`."""
        return self.batches(self.triplets.epoch(self.per_epoch, rng))

    def load(self, rows: Rows) -> Side:
        """See `TrainingTask.load`: the maps of all anchors, then of all positives, then of all negatives."""
        return self._stored.side(torch.from_numpy(rows.T.reshape(-1)), _ALL)

    def forward(self, loaded: Side) -> torch.Tensor:
        """See `TrainingTask.forward`."""
        images = describe_maps(self.detector, loaded.to(self.detector.conv1.weight.device))
        anchors, positives, negatives = images.chunk(3)
        return triplet_loss(anchors, positives, negatives, self._margin)


def triplet_loss(
    anchors: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor, margin: float
) -> torch.Tensor:
    """Mean of max(0, margin + |a - p|^2 - |a - n|^2) over unit vectors [B, C] each."""
    nearer, farther = ((anchors - others).square().sum(dim=1) for others in (positives, negatives))
    return functional.relu(margin + nearer - farther).mean()


def describe_maps(detector: Detector, maps: Side) -> torch.Tensor:
    """[B, C] of unit length: the mean of each map's descriptors, each times its weight."""
    shape = maps.descriptors.shape[:2]
    there = torch.ones(shape, dtype=torch.bool, device=maps.descriptors.device)
    if maps.padding is not None:
        there = ~maps.padding
    # A row of cells of all maps: the detector sees each cell alone, and batch statistics must not see padding.
    cells = maps.descriptors[there].T[None, :, None]
    features, weights = detector(cells)
    weighted = (features * weights[:, None])[0, :, 0].T
    image = torch.arange(shape[0], device=there.device)[:, None].expand(shape)[there]
    return functional.normalize(weighted.new_zeros(shape[0], weighted.shape[1]).index_add(0, image, weighted), dim=1)


@torch.no_grad()
def describe_stored(detector: Detector, stored: StoredLocals, count: int) -> FloatArray:
    """[count, C] of the first `count` images, as `describe_maps`."""
    device = detector.conv1.weight.device
    rows = torch.split(torch.arange(count), _CHUNK)
    parts = [describe_maps(detector, stored.side(part, _ALL).to(device)) for part in rows]
    return torch.cat(parts).cpu().numpy()


def stored_maps(source: DescriptorSource, ids: Sequence[str], card: ModelCard) -> StoredLocals:
    """The maps of images of an index. Raises RelookError where it has none as the backbone gave them."""
    if card.locals.kind != "map" or len(card.locals.scales) > 1 or card.locals.projection is not None:
        raise RelookError(f"the detector is trained on one whole map of each image; {_REMEDY}")
    reduced = (card.settings.get("locals") or {}).get("dimension")
    if reduced is not None:
        raise RelookError(f"the maps of the index are projected to {reduced} values; {_REMEDY}")
    return StoredLocals(source, ids, _ALL)


@torch.no_grad()
def start_as_cells(detector: Detector) -> None:
    """Descriptors start as the map's cells with channels of equal variance, and all weights are the same."""
    channels = detector.channels
    detector.conv1.weight.copy_(torch.eye(channels)[:, :, None, None])
    for tensor in (detector.conv1.bias, detector.conv2.weight, detector.conv2.bias):
        if tensor is not None:
            nn.init.zeros_(tensor)


def start_as_published(detector: Detector) -> None:
    """The released code's: kernels normal with a variance of 2 over their fan-out; draws from torch's generator."""
    for layer in (detector.conv1, detector.conv2):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out")
