"""Initial weights of a Reranking Transformer for small training sets: it compares tokens from the first step.

Used by `train-rerank`. From the usual random weights (Xavier) the network learns within minutes which descriptors
belong to which label, and nothing about comparing: on new photos its logits are useless. Here the first layer's
attention finds, for every token, the similar tokens of the other image, and subtracts them (docs/training.md has the
figures).
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from pipeline.rerank.rrt.network import RRTNetwork
from pipeline.rerank.rrt_sop.network import RRTSOPNetwork
from pipeline.rerank.transformer import Encoder, EncoderLayer
from pipeline.train.init.orthonormal import orthonormal_rows
from pipeline.train.init.whitening import Whitening

# Length of the segment embeddings, as a part of the tokens' length: enough to distinguish the two images.
_SEGMENT = 0.7
# Gain of queries and keys: attention is sharp enough to select similar tokens.
_GAIN = 1.4
# The feed-forward blocks start smaller by this factor, so that they do not dominate the comparison.
_DAMPING = 0.3


def start_comparing(network: RRTNetwork, whitening: Whitening) -> None:
    """Set the first layer, the segments and the (frozen) projection of the globals; draws from torch's generator.

    Args:
        network: new; its `token_length` should be about sqrt(d_model).
        whitening: becomes the projection of the global descriptors.
    """
    width = network.shape.d_model
    with torch.no_grad():
        network.remap.weight.copy_(torch.from_numpy(whitening.weight))
        network.remap.bias.copy_(torch.from_numpy(whitening.bias))
        network.remap.requires_grad_(False)
        side, kind, cls, sep = orthonormal_rows(width, 4) * math.sqrt(width) * _SEGMENT
        network.seg_encoder.weight.copy_(torch.stack([side, -side, cls, sep, side + kind, kind - side]))
        _compare_first(network.encoder, side)


def start_comparing_maps(network: RRTSOPNetwork, whitening: Whitening) -> None:
    """The same for a network that compares maps: `whitening` becomes the (frozen) projection of their cells."""
    width = network.shape.d_model
    with torch.no_grad():
        network.remap_local.weight.copy_(torch.from_numpy(whitening.weight))
        network.remap_local.bias.copy_(torch.from_numpy(whitening.bias))
        network.remap_local.requires_grad_(False)
        side, cls, sep = orthonormal_rows(width, 3) * math.sqrt(width) * _SEGMENT
        network.seg_encoder.weight.copy_(torch.stack([cls, sep, side, -side]))
        _compare_first(network.encoder, side)


def calibrate_skip(network: RRTNetwork | RRTSOPNetwork, cosines: torch.Tensor, truth: torch.Tensor) -> None:
    """Set the skip's factor and the classifier's bias to a logistic regression on the cosines of pairs.

    The network then starts from the best score that the projected globals give alone, and learns the rest.

    Args:
        network: with a skip.
        cosines: [P] of the projected globals of pairs.
        truth: [P], 1 for pairs of one label, else 0.
    """
    line = torch.tensor([10.0, 0.0], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([line], max_iter=100, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        solver.zero_grad()
        logits = line[0] * cosines.double() + line[1]
        loss = functional.binary_cross_entropy_with_logits(logits, truth.double())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(step)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        network.skip.copy_(line[:1])
        network.classifier.bias.copy_(line[1:])


def _compare_first(encoder: Encoder, side: torch.Tensor) -> None:
    layers = [layer for layer in encoder.layers if isinstance(layer, EncoderLayer)]
    _compare(layers[0].self_attn, side / side.norm())
    for layer in layers:
        layer.linear2.weight.mul_(_DAMPING)


def _compare(attention: nn.MultiheadAttention, side: torch.Tensor) -> None:
    """Queries have the other image's segment: a token attends to similar ones there, and subtracts them."""
    width = attention.embed_dim
    rotation, value = orthonormal_rows(width, width), orthonormal_rows(width, width)
    mirror = torch.eye(width) - 2 * torch.outer(side, side)
    attention.in_proj_weight.copy_(torch.cat([_GAIN * rotation @ mirror, _GAIN * rotation, value]))
    attention.in_proj_bias.zero_()
    attention.out_proj.weight.copy_(-value.T)
    attention.out_proj.bias.zero_()
