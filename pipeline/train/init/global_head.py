"""Initial weights of a new global head: a closed-form linear probe of the backbone before training.

Used by `train-global` (`train_global.head_start = whitened`). The gradients of a random head first distort the
backbone, which costs most where labels are few: classes outside of the training set get worse (docs/training.md).
Linear probing before fine-tuning: Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", ICLR 2022; here the probe is a within-class whitening, and prototypes are the means of the labels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.errors import RelookError
from pipeline.train.data.views import Views
from pipeline.train.global_descriptor.trunk import Trunk
from pipeline.train.init.whitening import within_class_whitening
from pipeline.train.loop.task import Rows

# Photos that it is fitted on, and views of each; more change little.
_PHOTOS, _VIEWS = 20_000, 2
_BATCH = 64


def start_head(trunk: Trunk, fc: nn.Linear, views: Views, labels: Rows, shrinkage: float) -> torch.Tensor:
    """Set a linear head to a within-class whitening of the trunk's pooled maps.

    Args:
        trunk: untrained, with `fc` as the last layer of its head.
        fc: is set.
        views: of N photos.
        labels: [N] from 0.
        shrinkage: see `within_class_whitening`.

    Returns:
        [classes, D] of unit length, the mean descriptor of each label; zeros for a label without a sampled photo.

    Raises:
        RelookError: `fc` has more outputs than inputs.
    """
    if fc.out_features > fc.in_features:
        raise RelookError(
            f"train_global.dimension = {fc.out_features} is more than the {fc.in_features} values that are pooled; "
            "whitening cannot start it (train_global.head_start=random can)"
        )
    photos = np.random.default_rng(0).permutation(len(labels))[:_PHOTOS]
    count = min(_VIEWS, views.count)
    numbers = np.tile(labels[photos], count)
    pooled = torch.cat([_pooled(trunk, fc, views, photos, draw) for draw in range(count)])
    names = [f"{label}" for label in numbers.tolist()]
    whitening = within_class_whitening(pooled.numpy(), names, fc.out_features, shrinkage)
    with torch.no_grad():
        fc.weight.copy_(torch.from_numpy(whitening.weight))
        fc.bias.copy_(torch.from_numpy(whitening.bias))
    projected = functional.normalize(torch.from_numpy(whitening.apply(pooled.numpy())), dim=1)
    return _means(projected, numbers, int(labels.max()) + 1)


def mean_descriptors(trunk: Trunk, views: Views, labels: Rows) -> torch.Tensor:
    """[classes, D] as `start_head` returns them, of a trunk whose head is not new; `labels` [N] of N photos, from 0."""
    photos = np.random.default_rng(0).permutation(len(labels))[:_PHOTOS]
    count = min(_VIEWS, views.count)
    described = torch.cat([_described(trunk, views, photos, draw) for draw in range(count)])
    return _means(described, np.tile(labels[photos], count), int(labels.max()) + 1)


def _means(descriptors: torch.Tensor, numbers: Rows, classes: int) -> torch.Tensor:
    sums = torch.zeros(classes, descriptors.shape[1])
    sums.index_add_(0, torch.from_numpy(numbers), descriptors)
    return functional.normalize(sums, dim=1)


@torch.no_grad()
def _pooled(trunk: Trunk, fc: nn.Linear, views: Views, photos: Rows, draw: int) -> torch.Tensor:
    """[n, C] inputs of `fc` for one view of each photo."""
    given: list[torch.Tensor] = []
    handle = fc.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0].float().cpu()))
    try:
        _described(trunk, views, photos, draw)
    finally:
        handle.remove()
    return torch.cat(given)


@torch.no_grad()
def _described(trunk: Trunk, views: Views, photos: Rows, draw: int) -> torch.Tensor:
    """[n, D] descriptors of one view of each photo, on the CPU."""
    trunk.eval()
    batches = [photos[start : start + _BATCH].tolist() for start in range(0, len(photos), _BATCH)]
    return torch.cat([trunk(views.trunk_input(views.read(batch, [draw] * len(batch)))).cpu() for batch in batches])
