"""The rerankers in the straightforward way: one pair at a time, nothing kept, as the official scripts do it.

What `rerank.py` compares with. Written from the papers; plain enough to be read beside them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.rerank.ames_network import AMESNetwork
from pipeline.rerank.cvnet_network import CVLearner
from pipeline.rerank.rrt_network import RRTNetwork
from pipeline.types import Description

RRT_LENGTH = 500


def pyramid(maps: torch.Tensor, convolutions: nn.ModuleList, levels: Sequence[float]) -> list[torch.Tensor]:
    """CVNet's maps of one image [C, h, w]: resized, then projected."""
    result = []
    for convolution, level in zip(convolutions, levels, strict=True):
        size = [max(1, round(side * level**0.5)) for side in maps.shape[-2:]]
        result.append(convolution(functional.interpolate(maps[None], size, mode="bilinear", align_corners=True))[0])
    return result


def cvnet_pair(
    query: torch.Tensor, key: torch.Tensor, convolutions: nn.ModuleList, levels: Sequence[float], learner: CVLearner
) -> float:
    """CVNet-Rerank's score of two stage-3 maps [C, h, w]."""
    (hq, wq), (hk, wk) = query.shape[1:], key.shape[1:]
    volumes = []
    ones, others = pyramid(query, convolutions, levels), pyramid(key, convolutions, levels)
    for one in ones:
        for other in others:
            lengths = one.flatten(1).norm(dim=0)[:, None] * other.flatten(1).norm(dim=0) + 1e-8
            cosines = ((one.flatten(1).T @ other.flatten(1)) / lengths).view(1, *one.shape[1:], -1).permute(0, 3, 1, 2)
            cosines = functional.interpolate(cosines, (hq, wq), mode="bilinear", align_corners=True)
            cosines = cosines.permute(0, 2, 3, 1).reshape(hq * wq, 1, *other.shape[1:])
            cosines = functional.interpolate(cosines, (hk, wk), mode="bilinear", align_corners=True)
            volumes.append(cosines.view(hq, wq, hk, wk).clamp(min=0))
    volume = torch.stack(volumes)[None]
    for block in (learner.block1, learner.block2, learner.block3, learner.block4):
        volume = block(volume)
    return float(learner.mlp(volume.mean(dim=(2, 3, 4, 5))).softmax(dim=1)[0, 1])


def superglobal_all(
    gallery: torch.Tensor, queries: torch.Tensor, order: torch.Tensor, k: int, beta: float = 0.15
) -> torch.Tensor:
    """SuperGlobal's scores [Q, M] of the candidates `order` [Q, M], in the steps of the official modules.

    Both gather the candidates anew, sort all similarities to find the nearest, write out every neighbour of every
    candidate, and sort the refined descriptors before the second product.
    """
    vectors = gallery[order].clone()
    similarity = torch.einsum("abc,adc->abd", vectors, vectors)
    neighbours = torch.argsort(-similarity.clone(), dim=-1)[:, :, : k + 1]
    weights = -torch.sort(-similarity.clone(), dim=-1)[0][:, :, : k + 1].unsqueeze(-1)
    weights[:, :, 1:] *= beta
    weights[:, :, :1] = 1
    vectors = gallery[order]
    around = torch.stack([item[rows] for item, rows in zip(vectors, neighbours, strict=True)])  # [Q, M, K + 1, D]
    refined = torch.sum(around * weights, dim=2) / torch.sum(weights, dim=2)
    first = torch.einsum("ac,adc->ad", queries, refined)
    places = torch.argsort(-first, dim=-1)
    expanded = torch.take_along_dim(refined, places[:, : k + 1, None], 1).amax(dim=1)
    second = torch.einsum("ac,adc->ad", expanded, torch.take_along_dim(refined, places[:, :, None], 1))
    mixed = (torch.take_along_dim(first, places, 1) + second) / 2
    return torch.empty_like(mixed).scatter_(1, places, mixed)


def rrt_pair(network: RRTNetwork, query: Description, key: Description) -> float:
    """The Reranking Transformer's score of two images, both padded to 500 locals as the official data set does."""
    parts, masks = [network.seg_encoder.weight[2:3]], [torch.zeros(1, dtype=torch.bool)]
    for number, item in enumerate((query, key)):
        vector = functional.normalize(network.remap(torch.from_numpy(item.vector)), dim=0)
        rows = functional.normalize(torch.from_numpy(item.locals.descriptors), dim=1)
        rows = rows + network.scale_encoder.weight[_scale_rows(item)] + network.seg_encoder.weight[number]
        padding = RRT_LENGTH - len(rows)
        parts += [(vector + network.seg_encoder.weight[4 + number])[None], functional.pad(rows, (0, 0, 0, padding))]
        masks += [torch.zeros(1, dtype=torch.bool), torch.arange(RRT_LENGTH) >= len(rows)]
        if number == 0:
            parts.append(network.seg_encoder.weight[3:4])
            masks.append(torch.zeros(1, dtype=torch.bool))
    sequence, mask = torch.cat(parts)[None], torch.cat(masks)[None]
    for layer in network.encoder.layers:
        sequence = _encoder_layer(layer, sequence, mask)
    return float(network.classifier(sequence[:, 0]).sigmoid())


def ames_pair(network: AMESNetwork, query: Description, key: Description) -> float:
    """AMES's score of two images: both attentions over one sequence, with what may not be seen masked."""
    ours = network.remap_local(_unit(query))
    theirs = network.remap_local(_unit(key))
    if not network.shape.binarised:
        theirs = theirs.half().float()
    sequence = torch.cat([network.mtc_token[None], ours, theirs])[None]
    side = torch.tensor([0] + [1] * len(ours) + [2] * len(theirs))
    token = (side == 0)[:, None] | (side == 0)[None]
    same = side[:, None] == side[None]
    hidden = {"self_attn": ~(same | token), "cross_attn": same & ~token}
    for layer in network.decoder.layers:
        for name, norm in (("self_attn", layer.norm1), ("cross_attn", layer.norm2)):
            attention = getattr(layer, name)
            sequence = norm(sequence + _attend(attention, sequence, hidden[name]))
        sequence = layer.norm3(sequence + layer.linear2(torch.relu(layer.linear1(sequence))))
    return float(network.classifier(sequence[:, 0]).sigmoid())


def _unit(item: Description) -> torch.Tensor:
    return functional.normalize(torch.from_numpy(item.locals.descriptors), dim=1)


def _scale_rows(item: Description) -> torch.Tensor:
    return torch.full((len(item.locals),), 2)  # all of the benchmark's are seen at scale 1


def _encoder_layer(layer: nn.Module, sequence: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    attended = layer.norm1(sequence + _attend(layer.self_attn, sequence, mask.expand(sequence.shape[1], -1)))
    return layer.norm2(attended + layer.linear2(torch.relu(layer.linear1(attended))))


def _attend(attention: nn.Module, sequence: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Multi-head attention as it stands in the textbooks: all scores, mask, softmax, sum."""
    heads = attention.num_heads
    projected = functional.linear(sequence, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in projected.chunk(3, dim=-1))
    scores = query @ key.transpose(2, 3) / np.sqrt(query.shape[-1])
    weights = scores.masked_fill(hidden, -torch.inf).softmax(dim=-1)
    return attention.out_proj((weights @ value).transpose(1, 2).flatten(2))
