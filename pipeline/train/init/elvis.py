"""Initial weights of ELViS: as in the authors' code, and such that a better match is a larger vote from the start.

Of the recipe `elvis`. At random, its two perceptrons of one input have the wrong sign as often as not: then more
votes mean another thing, and a short training ends there. So the signs of their last layers are chosen.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from pipeline.rerank.elvis.network import ELViSNetwork


@torch.no_grad()
def start_voting(network: ELViSNetwork) -> None:
    """Xavier-uniform matrices, biases 0, norms 1; draws from torch's generator."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    for perceptron in (network.f, network.g):
        least, most = perceptron(torch.tensor([[0.0], [1.0]], device=network.dust_bin.device)).flatten().tolist()
        if most < least:
            cast(nn.Linear, perceptron[-1]).weight.neg_()
