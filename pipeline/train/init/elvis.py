"""Initial weights of ELViS: as in the authors' code, and such that a better match is a larger vote from the start.

Of the recipe `elvis`. At random, its two perceptrons of one input have the wrong sign as often as not: then more
votes mean another thing, and a short training ends there. So the signs of their last layers are chosen. A network of
few photos starts from the directions in which descriptors vary, without their mean: cells after a ReLU have a mean so
large that all their cosines are alike, and a random projection keeps it.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import nn

from pipeline.rerank.elvis.network import ELViSNetwork
from pipeline.types import FloatArray


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


@torch.no_grad()
def start_centred(network: ELViSNetwork, samples: FloatArray) -> None:
    """The projection becomes a PCA of local descriptors [M, local_dim], with their mean at zero; no label is read."""
    linear = cast(nn.Linear, network.remap_local[0])
    mean = samples.mean(axis=0, dtype=np.float64)
    centred = samples - mean
    _, directions = np.linalg.eigh(centred.T @ centred)
    kept = directions[:, ::-1][:, : linear.out_features].T
    nn.init.zeros_(linear.weight)
    linear.weight[: len(kept)] = torch.from_numpy(kept.copy()).to(linear.weight)
    linear.bias.copy_(-linear.weight @ torch.from_numpy(mean).to(linear.weight))
