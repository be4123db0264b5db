"""Training of the Reranking Transformer for products together with the describer whose maps it compares, from photos.

A recipe of `train-rerank`. Tan, Yuan, Ordonez, ICCV 2021, section 4.2: binary cross-entropy on pairs, whose gradient
goes through the local descriptors into the backbone. The paper searches with the globals of another, earlier network;
here one describer gives globals and maps, and a contrastive loss keeps its globals useful.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import NCALoss
from torch import nn
from torch.nn import functional

from pipeline.checkpoints import hash_weights
from pipeline.config import RRTSOPJointConfig, TrainRerankConfig
from pipeline.describe.backbone_parts import parts_of
from pipeline.describe.checkpoints import kept_state, save_describer
from pipeline.errors import RelookError
from pipeline.rerank.checkpoints import RerankCheckpoint, header_of
from pipeline.rerank.image_rows import Batch
from pipeline.rerank.rrt_sop.network import RRTSOPNetwork
from pipeline.rerank.rrt_sop.reranker import RRTSOPReranker, refuse_without_maps
from pipeline.train.data.training_set import Photos, TrainingSet
from pipeline.train.data.triplets import Triplets
from pipeline.train.data.views import AugmentedViews, CachedViews, Views, views_key
from pipeline.train.global_descriptor.trunk import Trunk, split_backbone
from pipeline.train.loop.distributed import broadcast_from_first, rank
from pipeline.train.loop.task import Rows, decaying_groups
from pipeline.train.rerankers.rrt_sop_joint_start import matcher_to_train, without_projection
from pipeline.train.rerankers.triplet_task import (
    TripletRecipe,
    TripletTask,
    mine_triplets,
    random_rotation,
    swapped_pairs,
)
from pipeline.types import Description


class RRTSOPJointTask(TripletTask):
    """Trains matcher and describer on photos. A batch has rows (anchor, positive, negative, swaps, three view numbers).

    Args:
        network: the matcher.
        trunk: the describer's trained parts and its global head.
        reduce: the final map to local descriptors.
        views: of N photos, in the rows that `triplets` names.
        triplets: the miner.
        ids, labels: of the N photos; "" is a distractor.
        settings: triplets per epoch, batch size, and the losses and rates of `rrt_sop.joint`.
    """

    def __init__(
        self,
        network: RRTSOPNetwork,
        trunk: Trunk,
        reduce: nn.Module,
        views: Views,
        triplets: Triplets,
        ids: Sequence[str],
        labels: Sequence[str],
        settings: TrainRerankConfig,
    ) -> None:
        super().__init__(triplets, ids, settings.triplets, settings.batch_size)
        assert settings.rrt_sop.joint is not None
        self.network, self.trunk, self.reduce = network, trunk, reduce
        self._joint: RRTSOPJointConfig = settings.rrt_sop.joint
        self._contrast = NCALoss(softmax_scale=1 / self._joint.temperature, distance=CosineSimilarity())
        self._views = views
        self._numbers = torch.from_numpy(_label_numbers(labels))
        # Rotated where the projection was fitted on labels (comparing start), so that only similarity is learned.
        self._rotating = network.shape.d_local is not None

    def plan(self, rng: np.random.Generator) -> list[Rows]:
        """See `TrainingTask.plan`; two bits of the fourth column say which of the two pairs are swapped."""
        drawn = self.triplets.epoch(self.per_epoch, rng)
        sides = rng.integers(0, 4, len(drawn))
        views = rng.integers(0, self._views.count, (len(drawn), 3))
        return self.batches(np.column_stack([drawn, sides, views]))

    def load(self, rows: Rows) -> tuple[Rows, torch.Tensor]:
        """See `TrainingTask.load`: anchors, then positives, then negatives."""
        return rows, self._views.read(rows[:, :3].T.flatten().tolist(), rows[:, 4:].T.flatten().tolist())

    def forward(self, loaded: tuple[Rows, torch.Tensor]) -> torch.Tensor:
        """See `TrainingTask.forward`; the contrastive loss is on the process's own share of a batch."""
        rows, views = loaded
        final = self.trunk.maps(self._views.trunk_input(views))[-1]
        loss = self._pair_loss(self.reduce(final), torch.from_numpy(rows[:, 3]))
        if self._joint.contrast:
            labels = self._numbers[torch.from_numpy(rows[:, :3].T.flatten())].to(final.device)
            loss = loss + self._joint.contrast * self._contrast(self.trunk.describe(final), labels)
        return loss

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """See `TrainingTask.groups`: a smaller learning rate for the describer."""
        describer = nn.ModuleList([self.trunk, self.reduce])
        slow = [{**group, "lr_scale": self._joint.rate} for group in decaying_groups(describer, weight_decay)]
        return [*decaying_groups(self.network, weight_decay), *slow]

    def _pair_loss(self, maps: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
        network, count = self.network, len(sides)
        cells = network.project(maps)
        tokens = network.scaled(cells)
        if self._rotating:
            tokens = tokens @ random_rotation(network.shape.d_model).to(tokens)
        tokens, whole = tokens + network.places(*maps.shape[2:]), network.whole(cells)
        triplets = torch.arange(3 * count).view(3, count).T
        left, right, truth = swapped_pairs(torch.cat([triplets, sides[:, None]], dim=1))
        logits = network(*(Batch(tokens[side], None, whole[side]) for side in (left, right)))
        return functional.binary_cross_entropy_with_logits(logits, truth.to(logits))


class RRTSOPJointRecipe(TripletRecipe):
    """See `JointRecipe`. Trains the describer of an index, and a matcher that starts as in `rrt_sop_joint_start.py`.

    Negatives are the store's candidates by the globals before training, as in the paper.

    Raises:
        MiningError: the labels give no triplets.
        RelookError: the index has no whole maps or projects more than these, its photos are not available, or
            `train_rerank.rrt_sop.joint.start` belongs to another index.
    """

    task: RRTSOPJointTask
    reranker: RRTSOPReranker

    def __init__(self, training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> None:
        joint = settings.rrt_sop.joint
        assert joint is not None
        refuse_without_maps(training_set.card)
        if training_set.photos is None:
            raise RelookError("train_rerank.rrt_sop.joint needs the photos of an index, which are not available")
        triplets = mine_triplets(training_set, settings.candidates)
        matcher = matcher_to_train(training_set, settings, seed, device)
        self._photos, self._settings = training_set.photos, settings
        self._describer = without_projection(training_set.photos.describer(), training_set.card, torch.device(device))
        network = self._describer.network
        frozen, parts = self._split_backbone(joint)
        network.head.requires_grad_(joint.contrast > 0)
        reduce = nn.Identity() if network.reduce is None else network.reduce.requires_grad_(True)
        trunk = Trunk(parts, network.head, joint.batch_norm == "learnt", joint.checkpointing)
        self._temporary_views: tempfile.TemporaryDirectory[str] | None = None
        views = self._views(training_set.photos, training_set.ids, frozen, torch.device(device))
        self.task = RRTSOPJointTask(
            matcher, trunk, reduce, views, triplets, training_set.ids, training_set.labels, settings
        )
        self.reranker = RRTSOPReranker(matcher, device=device)

    def describe(self, ids: Sequence[str]) -> list[Description]:
        """See `JointRecipe.describe`."""
        return self._photos.describe(self._describer, ids)

    def checkpoint(self) -> RerankCheckpoint:
        """See `Recipe.checkpoint`: the matcher alone, for maps of the describer with its current weights."""
        network = self._describer.network
        network.backbone.weights = hash_weights(kept_state(network))
        self.reranker.card = self._describer.card
        return super().checkpoint()

    def save(self, path: Path) -> None:
        """See `JointRecipe.save`: a describer's file that also has the matcher, like the official one."""
        matcher = self.checkpoint()
        save_describer(
            path,
            self._describer.card.name,
            self._describer.network,
            {"settings": self._settings.model_dump(mode="json", exclude={"out"})},
            {f"matcher.{key}": value for key, value in matcher.state.items()},
            header_of(matcher),
        )

    def _split_backbone(self, joint: RRTSOPJointConfig) -> tuple[nn.Sequential, list[nn.Module]]:
        """The frozen parts of the backbone and the trained ones."""
        if joint.freeze == "all":
            return nn.Sequential(*parts_of(self._describer.network.backbone)).eval().requires_grad_(False), []
        return split_backbone(self._describer.network, joint.freeze, "train_rerank.rrt_sop.joint.freeze")

    def _views(self, photos: Photos, ids: Sequence[str], frozen: nn.Sequential, device: torch.device) -> Views:
        joint = self._settings.rrt_sop.joint
        assert joint is not None
        augment = joint.augment
        views = AugmentedViews(lambda row: photos.pixels(ids[row]), augment, self._describer.input.as_read, frozen)
        if augment.views is None:
            return views
        if augment.views_folder is None and rank() == 0:
            self._temporary_views = tempfile.TemporaryDirectory(prefix="relook-views-")
        temporary = self._temporary_views.name if self._temporary_views else None
        root = augment.views_folder or Path(broadcast_from_first(temporary))
        key = views_key(frozen, augment, [photos.content(name) for name in ids], self._describer.input.reads)
        cached = CachedViews(views, len(ids), augment.views, root / key, device)
        cached.fill(lambda count: None, torch.get_num_threads())
        return cached


def _label_numbers(labels: Sequence[str]) -> Rows:
    """[N] a number for each label; every distractor has its own."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(label or f"\0{row}", len(known)) for row, label in enumerate(labels)], np.int64)
