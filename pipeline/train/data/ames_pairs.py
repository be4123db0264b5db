"""How AMES sees pairs while it learns: as when it scores them, but with gradients, turned, and with learnable bits.

Between the stored descriptors and the losses of `ames.py` and `ames_student.py`. Nothing here changes what a trained
network computes.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from pipeline.rerank.ames.network import AMESNetwork, Binarised
from pipeline.rerank.pair_reranker import Batch
from pipeline.train.data.stored_locals import Side


def projection(network: AMESNetwork) -> tuple[nn.Linear, nn.LayerNorm]:
    """The last steps from a descriptor, or its bits, to a token."""
    linear, norm = network.remap_local[-2], network.remap_local[-1]
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.LayerNorm)
    return linear, norm


def begun(network: AMESNetwork, side: Side, turn: torch.Tensor | None, variance: float | None = None) -> Batch:
    """One side of pairs after `AMESNetwork.begin`.

    Args:
        network: of either variant.
        side: descriptors as the index has them.
        turn: [model_dim, model_dim], applied to what is projected, before the layer norm; None: as it is.
        variance: see `soft_signs`; None: bits are signs, and pass no gradient.
    """
    first, *rest, norm = network.remap_local
    values = functional.normalize(side.descriptors, dim=-1)
    if variance is not None and isinstance(first, Binarised):
        values = soft_signs(values, first.W, variance)
    else:
        values = first(values)
    for part in rest:
        values = part(values)
    rows, whole = network.begin(norm(values if turn is None else values @ turn), side.padding)
    return Batch(rows, side.padding, whole)


def soft_signs(unit: torch.Tensor, weight: torch.Tensor, variance: float) -> torch.Tensor:
    """Stand in for the bits of unit descriptors [..., d] while `weight` [d, bits] is learnt.

    They are erf(x / sqrt(2 variance)), the mean sign of x under noise of that variance: the estimator of the authors'
    code (BinarizationLayer, sigma = 1e-6), which comes from Kordopatis-Zilos et al., "DnS: Distill-and-Select for
    Efficient and Accurate Video Indexing and Retrieval", IJCV 2022.
    """
    with torch.autocast(unit.device.type, enabled=False):
        return torch.erf(unit.float() @ weight / math.sqrt(2 * variance))


def twice(batch: Batch) -> Batch:
    """Every image of a batch, and all of them again."""
    padding = None if batch.padding is None else torch.cat([batch.padding] * 2)
    return Batch(torch.cat([batch.rows] * 2), padding, torch.cat([batch.whole] * 2))
