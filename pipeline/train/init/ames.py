"""Initial weights of AMES for small training sets: it compares descriptors from the first step.

Used by the recipe of `ames`. The first cross-attention finds, for every descriptor, the most similar one in the other
image and subtracts it; the matching token reads the size of the remainder in the second layer, and the logit is a
logistic regression on it. From random weights the network would learn which descriptors belong to which label instead
(docs/training.md has the figures).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pipeline.rerank.ames.network import AMESNetwork
from pipeline.train.data.ames_pairs import projection
from pipeline.train.init.logistic import logistic_line
from pipeline.train.init.orthonormal import orthonormal_rows
from pipeline.train.init.whitening import Whitening

# Length of a constant part of every token, relative to its content: its share shows how much of the content is left.
_CONSTANT = 2.0
# Gain of queries and keys: attention is sharp enough to select similar tokens.
_GAIN = 2.0
# Weights that are not part of the comparison start smaller by this factor, so that they do not dominate it.
_DAMPING = 0.3
# Standard deviation of what is read in the matching token, whose length is sqrt(model_dim).
_SPREAD = 3.0
# Random weights as the authors' code draws them.
_DEVIATION = 0.02


def start_as_published(network: AMESNetwork) -> None:
    """Random weights as in the authors' code, biases 0; draws from torch's generator. The bits are not set."""
    with torch.no_grad():
        nn.init.trunc_normal_(network.mtc_token, std=_DEVIATION)
        for module in network.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_DEVIATION)
                nn.init.zeros_(module.bias)


def start_comparing(network: AMESNetwork, whitening: Whitening) -> None:
    """Set the projection, the first layer and what the second layer reads; draws from torch's generator.

    Args:
        network: new, of full precision, with two layers at least.
        whitening: becomes its projection, to model_dim values or fewer.
    """
    width, heads = network.shape.model_dim, network.shape.heads
    linear, norm = projection(network)
    constant, read = _zero_mean_rows(width)
    with torch.no_grad():
        kept = len(whitening.bias)
        for own, fitted in ((linear.weight, whitening.weight), (linear.bias, whitening.bias)):
            own.zero_()
            own[:kept] = torch.from_numpy(fitted)
        norm.bias.copy_(constant * math.sqrt(width) * _CONSTANT)
        for number in range(network.shape.layers):
            layer = network.decoder.layer(number)
            for part in (layer.linear2, layer.self_attn.out_proj, layer.cross_attn.out_proj):
                part.weight.mul_(_DAMPING)
        first, second = network.decoder.layer(0), network.decoder.layer(1)
        first.self_attn.out_proj.weight.zero_()
        _compare(first.cross_attn, constant)
        # One value of each head is the constant's share; the rest of the layer stays random.
        values = second.self_attn.in_proj_weight[2 * width :].view(heads, -1, width)
        values[:, 0] = constant
        second.self_attn.out_proj.weight.view(width, heads, -1)[:, :, 0] = read[:, None] / heads
        network.classifier.weight.copy_(read)
        network.classifier.bias.zero_()


def calibrate(network: AMESNetwork, compare: Callable[[], torch.Tensor]) -> None:
    """Fit what the second layer reads, and the classifier, to pairs.

    Args:
        network: after `start_comparing`.
        compare: passes pairs through the network, without gradients; returns their truth [P], 1 for one label, else 0.
    """
    second, heads = network.decoder.layer(1), network.shape.heads
    constant = second.self_attn.in_proj_weight[2 * network.shape.model_dim].detach()
    with _recorded(network.decoder.layer(0).norm3, output=True) as tokens:
        compare()
    # The matching token attends to all about equally.
    share = torch.cat([(part @ constant).mean(dim=1) for part in tokens])
    with torch.no_grad():
        out = second.self_attn.out_proj
        read = network.classifier.weight[0] * (_SPREAD / share.std())
        out.weight.view(len(read), heads, -1)[:, :, 0] = read[:, None] / heads
        out.bias.copy_(-read * share.mean())
    with _recorded(network.classifier, output=False) as found:
        truth = compare()
    slope, offset = logistic_line(torch.cat(found) @ network.classifier.weight[0].detach(), truth)
    with torch.no_grad():
        network.classifier.weight.mul_(slope)
        network.classifier.bias.fill_(offset)


@contextmanager
def _recorded(module: nn.Module, output: bool) -> Iterator[list[torch.Tensor]]:
    """Collects the inputs or the outputs of a module within the block."""
    found: list[torch.Tensor] = []
    handle = module.register_forward_hook(lambda module, given, result: found.append(result if output else given[0]))
    try:
        yield found
    finally:
        handle.remove()


def _compare(attention: nn.MultiheadAttention, constant: torch.Tensor) -> None:
    """A token attends to the most similar one in the other image, and subtracts it, except for the constant part."""
    width = attention.embed_dim
    rotation, value = orthonormal_rows(width, width), orthonormal_rows(width, width)
    attention.in_proj_weight.copy_(torch.cat([_GAIN * rotation, _GAIN * rotation, value]))
    attention.in_proj_bias.zero_()
    content = torch.eye(width) - torch.outer(constant, constant)
    attention.out_proj.weight.copy_(-content @ value.T)
    attention.out_proj.bias.zero_()


def _zero_mean_rows(width: int) -> torch.Tensor:
    """Two orthonormal rows [2, width] with a mean of 0, which a layer norm does not change."""
    rows = torch.randn(width, 3)
    rows[:, 0] = 1.0
    basis: torch.Tensor = torch.linalg.qr(rows)[0]
    return basis.T[1:]
