"""Training of a global descriptor from labelled photos: classification with margins, and momentum contrast.

The task of `train-global`. CVNet-Global (Lee et al., CVPR 2022, section 3.2) is both losses in equal weights; without
the contrast it is ArcFace's training or that of any other loss of `losses.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pytorch_metric_learning.samplers import MPerClassSampler

from pipeline.config import TrainGlobalConfig
from pipeline.train.data.views import Views
from pipeline.train.global_descriptor.local_heads import LocalHeads
from pipeline.train.global_descriptor.losses import classification
from pipeline.train.global_descriptor.momentum import MomentumContrast, MomentumEncoder
from pipeline.train.global_descriptor.trunk import Trunk
from pipeline.train.loop.distributed import gather_rows
from pipeline.train.loop.task import Rows, TrainingTask, decaying_groups

# A loaded batch: labels [B], and one or two stacks of views.
Loaded = tuple[torch.Tensor, list[torch.Tensor]]


class GlobalTask(TrainingTask):
    """Trains a global descriptor. A batch has rows (photo, label, number of its view, number of the momentum's view).

    Args:
        trunk: what is trained.
        views: augmented photos.
        ids: of N photos.
        labels: [N] numbers of their labels, from 0; each number occurs.
        dimension: D of the descriptors.
        settings: losses, batches, rates.
        local_heads: DELG's local heads, trained beside the trunk without changing it; None: there are none.
    """

    def __init__(
        self,
        trunk: Trunk,
        views: Views,
        ids: Sequence[str],
        labels: Rows,
        dimension: int,
        settings: TrainGlobalConfig,
        local_heads: LocalHeads | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.classification = classification(settings.classification, int(labels.max()) + 1, dimension)
        self.encoder: MomentumEncoder | None = None
        self.contrast: MomentumContrast | None = None
        if settings.contrast.weight:
            self.encoder = MomentumEncoder(trunk, settings.contrast.momentum, settings.contrast.ramp)
            self.contrast = MomentumContrast(settings.contrast, dimension)
        self.local_heads = local_heads
        self._views, self._ids, self._labels, self._settings = views, ids, labels, settings

    def plan(self, rng: np.random.Generator) -> list[Rows]:
        """See `TrainingTask.plan`; a last incomplete batch is dropped, unless it is the only one."""
        size = self._settings.batch_size
        photos = self._order(rng)
        draws = rng.integers(0, self._views.count, (len(photos), 2))
        rows = np.column_stack([photos, self._labels[photos], draws])
        whole = len(rows) // size
        return np.split(rows[: whole * size], whole) if whole else [rows]

    def load(self, rows: Rows) -> Loaded:
        """See `TrainingTask.load`."""
        photos, labels, *draws = rows.T
        used = draws if self.encoder is not None else draws[:1]
        return torch.from_numpy(labels.copy()), [self._views.read(photos.tolist(), d.tolist()) for d in used]

    def forward(self, loaded: Loaded) -> torch.Tensor:
        """See `TrainingTask.forward`."""
        labels, views = loaded
        maps = self.trunk.maps(self._views.trunk_input(views[0]))
        labels = labels.to(maps[0].device)
        descriptors = self.trunk.describe(maps[-1])
        loss: torch.Tensor = self._settings.classification.weight * self.classification(descriptors, labels)
        if self.encoder is not None and self.contrast is not None:
            keys = self.encoder(self._views.trunk_input(views[1]))
            self.contrast.queue.put(gather_rows(keys), gather_rows(labels))
            loss = loss + self._settings.contrast.weight * self.contrast(descriptors, labels)
        if self.local_heads is not None:
            loss = loss + self.local_heads(maps, labels)
        return loss

    def after_step(self) -> None:
        """See `TrainingTask.after_step`."""
        if self.encoder is not None:
            self.encoder.follow(self.trunk)

    def names(self, rows: Rows) -> list[str]:
        """See `TrainingTask.names`."""
        return [self._ids[photo] for photo in rows[:, 0].tolist()]

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """See `TrainingTask.groups`: smaller rates for earlier parts of the backbone, larger ones for heads."""
        settings, groups = self._settings, []
        last = len(self.trunk.parts) - 1
        for number, part in enumerate(self.trunk.parts):
            scale = settings.part_rate ** (last - number)
            groups += [{**group, "lr_scale": scale} for group in decaying_groups(part, weight_decay)]
        for head in (self.trunk.head, self.classification, self.local_heads):
            if head is not None:
                groups += [{**group, "lr_scale": settings.head_rate} for group in decaying_groups(head, weight_decay)]
        return [group for group in groups if group["lr_scale"] > 0]

    def _order(self, rng: np.random.Generator) -> Rows:
        """The photos of one epoch, in order."""
        count = len(self._labels)
        per_label = self._settings.per_label
        if per_label is None:
            return rng.permutation(count)
        sampler = MPerClassSampler(self._labels, per_label, length_before_new_iter=count)
        state = np.random.get_state()  # the sampler draws from numpy's own generator
        try:
            np.random.seed(int(rng.integers(2**32)))
            return np.array(list(sampler), dtype=np.int64)
        finally:
            np.random.set_state(state)
