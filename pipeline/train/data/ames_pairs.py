"""Pairs as AMES reads them in training: as in scoring, but with gradients, random rotations and differentiable bits.

Between the stored descriptors and the losses of `rerankers/ames.py` and `rerankers/ames_binarised.py`. Nothing here
changes what a trained network computes.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from pipeline.rerank.ames.network import AMESNetwork, Binarised
from pipeline.rerank.image_rows import Batch
from pipeline.train.data.stored_locals import Side


def projection(network: AMESNetwork) -> tuple[nn.Linear, nn.LayerNorm]:
    """The linear layer and the layer norm that make a token of a descriptor, or of its bits."""
    linear, norm = network.remap_local[-2], network.remap_local[-1]
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.LayerNorm)
    return linear, norm


def begin_side(network: AMESNetwork, side: Side, rotation: torch.Tensor | None, variance: float | None = None) -> Batch:
    """One side of pairs after `AMESNetwork.begin`.

    Args:
        network: of either variant.
        side: descriptors as the index has them.
        rotation: [model_dim, model_dim], applied to the projected descriptors before the layer norm; None: no rotation.
        variance: see `soft_signs`; None: bits are signs, without a gradient.
    """
    first, *rest, norm = network.remap_local
    values = functional.normalize(side.descriptors, dim=-1)
    if variance is not None and isinstance(first, Binarised):
        values = soft_signs(values, first.W, variance)
    else:
        values = first(values)
    for part in rest:
        values = part(values)
    rows, whole = network.begin(norm(values if rotation is None else values @ rotation), side.padding)
    return Batch(rows, side.padding, whole)


def soft_signs(unit: torch.Tensor, weight: torch.Tensor, variance: float) -> torch.Tensor:
    """Differentiable bits [..., bits] of unit descriptors [..., d], for training `weight` [d, bits].

    They are erf(x / sqrt(2 variance)), the mean sign of x under noise of that variance: the estimator of the authors'
    code (BinarizationLayer, sigma = 1e-6), which comes from Kordopatis-Zilos et al., "DnS: Distill-and-Select for
    Efficient and Accurate Video Indexing and Retrieval", IJCV 2022.
    """
    with torch.autocast(unit.device.type, enabled=False):
        return torch.erf(unit.float() @ weight / math.sqrt(2 * variance))


def repeat_twice(batch: Batch) -> Batch:
    """A batch followed by itself: every image twice."""
    padding = None if batch.padding is None else torch.cat([batch.padding] * 2)
    return Batch(torch.cat([batch.rows] * 2), padding, torch.cat([batch.whole] * 2))
