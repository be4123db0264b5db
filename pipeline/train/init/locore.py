"""Initial weights of LoCoRe for small training sets: candidates are compared with the query from the first step.

Used by the recipe of `locore`. The first layer's attention finds, for every token of a candidate, the similar tokens of
the query and subtracts them; what is left is read off a direction that all tokens share, and a logistic regression on
it is the classifier. From random weights nothing is learned in the minutes that a small training takes.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from pipeline.rerank.locore.network import ImageLists, LoCoReNetwork
from pipeline.rerank.locore.shape import FIRST_POSITION
from pipeline.train.init.logistic import logistic_line
from pipeline.train.init.orthonormal import orthonormal_rows
from pipeline.train.init.whitening import Whitening

# Length of the direction that distinguishes the query from candidates, as a part of the content's.
_SIDE = 0.7
# Gain of queries and keys: attention is sharp enough to select similar tokens.
_GAIN = 1.4


def start_comparing(network: LoCoReNetwork, of_locals: Whitening, of_globals: Whitening) -> torch.Tensor:
    """Set projections, positions and the first layer; draws from torch's generator.

    Args:
        network: new, with one linear projection each.
        of_locals, of_globals: become these projections, to the width of tokens or fewer values.

    Returns:
        [d] of unit length: the direction along which a candidate's token is the longer, the better it was matched.
    """
    shape, longformer = network.shape, _longformer(network)
    side = _zero_mean_row(shape.width)
    with torch.no_grad():
        for linear, whitening in ((network.local_to_lm, of_locals), (network.global_to_lm, of_globals)):
            _set_projection(linear, whitening, math.sqrt(shape.width))
        positions = longformer.embeddings.position_embeddings.weight
        of_query = 1 if shape.position_rule == "segment" else shape.per_image
        length = _SIDE * math.sqrt(shape.width)
        positions += length * side
        positions[FIRST_POSITION : FIRST_POSITION + of_query] -= 2 * length * side
        _compare(longformer.encoder["layer"][0], side)
    return side


@torch.no_grad()
def calibrate(network: LoCoReNetwork, side: torch.Tensor, lists: ImageLists, truth: torch.Tensor) -> None:
    """Set the classifier to a logistic regression on the direction `side` [d]; `truth` [B, G] of lists in a batch."""
    tokens = network.candidate_tokens(truth.shape[1])
    states = network.hidden(lists, tokens.flatten()).view(len(truth), *tokens.shape, -1)
    there = network.descriptors_there(lists)
    slope, offset = logistic_line((states @ side)[there], truth.unsqueeze(2).expand(there.shape)[there])
    classifier: Any = network.language_model["classifier"]
    signs = torch.tensor([-0.5, 0.5])
    classifier.weight.copy_(signs[:, None] * slope * side)
    classifier.bias.copy_(signs * offset)


def _set_projection(linear: Any, whitening: Whitening, length: float) -> None:
    kept = len(whitening.bias)
    for own, fitted in ((linear.weight, whitening.weight), (linear.bias, whitening.bias)):
        own.zero_()
        own[:kept] = length * torch.from_numpy(fitted)


def _longformer(network: LoCoReNetwork) -> Any:
    return network.language_model["longformer"]


def _compare(layer: Any, side: torch.Tensor) -> None:
    """Queries have the other side: a token of a candidate attends to similar ones of the query, and subtracts them."""
    attention, width = layer.attention["self"], len(side)
    rotation, value = orthonormal_rows(width, width), orthonormal_rows(width, width)
    mirror = torch.eye(width) - 2 * torch.outer(side, side)
    attention.query.weight.copy_(_GAIN * rotation @ mirror)
    attention.key.weight.copy_(_GAIN * rotation)
    attention.value.weight.copy_(value)
    layer.attention["output"]["dense"].weight.copy_(-value.T)


def _zero_mean_row(width: int) -> torch.Tensor:
    """A random row [width] of unit length with a mean of 0, which a layer norm does not change."""
    row = torch.randn(width)
    row -= row.mean()
    unit: torch.Tensor = row / row.norm()
    return unit
