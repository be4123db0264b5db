"""Where AMES starts from when few pictures are to be learnt from: it compares from the first step.

Used by the recipe of `ames`. The first attention across images finds, for every descriptor, its like in the other image
and subtracts it; how much is left of all of them is what the matching token reads in the second layer, and the logit is
the logistic regression on that. From random weights the network would learn which descriptors belong to which label
instead (docs/training.md has the figures).
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
from pipeline.train.init.whitening import Whitening

# A constant part of every token, this long beside its content: what is left of the content shows by its share.
_CONSTANT = 2.0
# Gain of queries and keys: attention is sharp enough to pick the tokens that are alike.
_GAIN = 2.0
# All that is not part of the comparison begins quietly, so that it does not drown it.
_QUIET = 0.3
# What is read spreads so widely in the matching token, whose length is sqrt(model_dim).
_SPREAD = 3.0
# Random weights as the authors' code draws them.
_DEVIATION = 0.02


def start_as_published(network: AMESNetwork) -> None:
    """Random weights as in the authors' code, biases 0; draws from torch's generator. Bits keep their own start."""
    with torch.no_grad():
        nn.init.trunc_normal_(network.mtc_token, std=_DEVIATION)
        for module in network.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_DEVIATION)
                nn.init.zeros_(module.bias)


def start_comparing(network: AMESNetwork, whitening: Whitening) -> None:
    """Set the projection and the first layer, and the second layer's reading; draws from torch's generator.

    Args:
        network: fresh, of full precision, with two layers at least.
        whitening: becomes its projection, to model_dim values or fewer.
    """
    width, heads = network.shape.model_dim, network.shape.heads
    linear, norm = projection(network)
    constant, read = _apart(width)
    with torch.no_grad():
        kept = len(whitening.bias)
        for own, fitted in ((linear.weight, whitening.weight), (linear.bias, whitening.bias)):
            own.zero_()
            own[:kept] = torch.from_numpy(fitted)
        norm.bias.copy_(constant * math.sqrt(width) * _CONSTANT)
        for number in range(network.shape.layers):
            layer = network.decoder.layer(number)
            for part in (layer.linear2, layer.self_attn.out_proj, layer.cross_attn.out_proj):
                part.weight.mul_(_QUIET)
        first, second = network.decoder.layer(0), network.decoder.layer(1)
        first.self_attn.out_proj.weight.zero_()
        _compare(first.cross_attn, constant)
        # One value of each head is the constant's share; the rest of the layer stays as it was drawn.
        values = second.self_attn.in_proj_weight[2 * width :].view(heads, -1, width)
        values[:, 0] = constant
        second.self_attn.out_proj.weight.view(width, heads, -1)[:, :, 0] = read[:, None] / heads
        network.classifier.weight.copy_(read)
        network.classifier.bias.zero_()


def calibrate(network: AMESNetwork, compare: Callable[[], torch.Tensor]) -> None:
    """Fit how the second layer reads, and the classifier, to pairs.

    Args:
        network: after `start_comparing`.
        compare: passes pairs through the network, without gradients, and gives their truth [P]: 1 for one label, or 0.
    """
    second, heads = network.decoder.layer(1), network.shape.heads
    constant = second.self_attn.in_proj_weight[2 * network.shape.model_dim].detach()
    with _watched(network.decoder.layer(0).norm3, output=True) as tokens:
        compare()
    # The matching token attends to all about equally.
    left = torch.cat([(part @ constant).mean(dim=1) for part in tokens])
    with torch.no_grad():
        out = second.self_attn.out_proj
        read = network.classifier.weight[0] * (_SPREAD / left.std())
        out.weight.view(len(read), heads, -1)[:, :, 0] = read[:, None] / heads
        out.bias.copy_(-read * left.mean())
    with _watched(network.classifier, output=False) as found:
        truth = compare()
    slope, offset = logistic_line(torch.cat(found) @ network.classifier.weight[0].detach(), truth)
    with torch.no_grad():
        network.classifier.weight.mul_(slope)
        network.classifier.bias.fill_(offset)


@contextmanager
def _watched(module: nn.Module, output: bool) -> Iterator[list[torch.Tensor]]:
    """Collects what goes into a module, or comes out of it, within the block."""
    seen: list[torch.Tensor] = []
    handle = module.register_forward_hook(lambda module, given, result: seen.append(result if output else given[0]))
    try:
        yield seen
    finally:
        handle.remove()


def _compare(attention: nn.MultiheadAttention, constant: torch.Tensor) -> None:
    """A token matches its like in the other image, and subtracts it, but for the constant part."""
    width = attention.embed_dim
    turn, value = _directions(width, width), _directions(width, width)
    attention.in_proj_weight.copy_(torch.cat([_GAIN * turn, _GAIN * turn, value]))
    attention.in_proj_bias.zero_()
    content = torch.eye(width) - torch.outer(constant, constant)
    attention.out_proj.weight.copy_(-content @ value.T)
    attention.out_proj.bias.zero_()


def _apart(width: int) -> torch.Tensor:
    """Two orthonormal rows of `width` that a layer norm lets pass: their values have a mean of 0."""
    rows = torch.randn(width, 3)
    rows[:, 0] = 1.0
    basis: torch.Tensor = torch.linalg.qr(rows)[0]
    return basis.T[1:]


def _directions(width: int, count: int) -> torch.Tensor:
    """`count` random orthonormal rows of `width`."""
    basis: torch.Tensor = torch.linalg.qr(torch.randn(width, count))[0]
    return basis.T
