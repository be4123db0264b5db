"""The rerankers in the straightforward way: one pair at a time, nothing kept, as the official scripts do it.

What `rerank.py` compares with. Written from the papers; plain enough to be read beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.rerank.ames.network import AMESNetwork
from pipeline.rerank.cvnet.network import CVLearner
from pipeline.rerank.elvis.network import ELViSNetwork
from pipeline.rerank.locore.network import ImageLists, LoCoReNetwork
from pipeline.rerank.rrt.network import RRTNetwork
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

    Both gather the candidates again, sort all similarities to find the nearest, write out every neighbour of every
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


def rrt_scores(network: RRTNetwork, query: Description, items: Sequence[Description]) -> list[float]:
    """The Reranking Transformer's scores of one query in one batch, every image padded to 500 locals."""
    left, right = _rrt_side(network, [query], 0), _rrt_side(network, items, 1)
    count = len(items)
    special = network.seg_encoder.weight[2:4]
    sequence = torch.cat(
        [
            special[:1].expand(count, 1, -1),
            left[0].expand(count, -1, -1),
            special[1:].expand(count, 1, -1),
            right[0],
        ],
        dim=1,
    )
    seen = torch.zeros(count, 1, dtype=torch.bool)
    padding = torch.cat([seen, left[1].expand(count, -1), seen, right[1]], dim=1)
    tokens = sequence.transpose(0, 1)
    for layer in network.encoder.layers:
        attended = _official(layer.self_attn)(tokens, tokens, tokens, key_padding_mask=padding)[0]
        tokens = layer.norm1(tokens + attended)
        tokens = layer.norm2(tokens + layer.linear2(torch.relu(layer.linear1(tokens))))
    return network.classifier(tokens[0]).squeeze(-1).sigmoid().tolist()


def ames_scores(network: AMESNetwork, query: Description, items: Sequence[Description]) -> list[float]:
    """AMES's scores of one query in one batch: both attentions over one sequence, with what may not be seen masked."""
    ours = network.remap_local(_unit(query))
    theirs = torch.stack([network.remap_local(_unit(item)) for item in items])
    if not network.shape.binarised:
        theirs = theirs.half().float()
    count = len(items)
    sequence = torch.cat([network.mtc_token.expand(count, 1, -1), ours.expand(count, -1, -1), theirs], dim=1)
    side = torch.tensor([0] + [1] * len(ours) + [2] * theirs.shape[1])
    token = (side == 0)[:, None] | (side == 0)[None]
    same = side[:, None] == side[None]
    tokens = sequence.transpose(0, 1)
    for layer in network.decoder.layers:
        within = _official(layer.self_attn)(tokens, tokens, tokens, attn_mask=~(same | token))[0]
        tokens = layer.norm1(tokens + within)
        across = _official(layer.cross_attn)(tokens, tokens, tokens, attn_mask=same & ~token)[0]
        tokens = layer.norm2(tokens + across)
        tokens = layer.norm3(tokens + layer.linear2(torch.relu(layer.linear1(tokens))))
    return network.classifier(tokens[0]).squeeze(-1).sigmoid().tolist()


def elvis_scores(
    network: ELViSNetwork, query: Description, items: Sequence[Description], temperature: float
) -> list[float]:
    """ELViS's scores of one query in one batch: projection of every pair's both sides, and Sinkhorn's algorithm on the
    whole matrix with its bins, in logarithms."""
    count, shape = len(items), network.shape
    ours, theirs = (
        functional.normalize(network.remap_local(rows), dim=-1)
        for rows in (
            torch.from_numpy(query.locals.descriptors).expand(count, -1, -1),
            torch.from_numpy(np.stack([item.locals.descriptors for item in items])),
        )
    )
    m, n = ours.shape[1], theirs.shape[1]
    hidden = [torch.zeros(count, size, dtype=torch.bool) for size in (m, n)]
    cosines = torch.einsum("bid,bjd->bij", ours, theirs)
    cosines = cosines.masked_fill(~(~hidden[0][:, :, None] & ~hidden[1][:, None]), -torch.inf)
    scores = torch.empty(count, m + 1, n + 1)
    scores[:, :m, :n] = cosines
    scores[:, m, :n] = network.dust_bin_mlp(theirs).squeeze(-1)
    scores[:, :m, n] = network.dust_bin_mlp(ours).squeeze(-1)
    scores[:, m, n] = network.dust_bin
    scores = scores / (1 / shape.sharpness)
    norm = -torch.tensor(float(m + n)).log()
    rows, columns = norm.repeat(count, m + 1), norm.repeat(count, n + 1)
    rows[:, -1] += np.log(n)
    columns[:, -1] += np.log(m)
    u, v = torch.zeros_like(rows), torch.zeros_like(columns)
    for _ in range(shape.iterations):
        u = rows - torch.logsumexp(scores + v.unsqueeze(1), dim=2)
        v = columns - torch.logsumexp(scores + u.unsqueeze(2), dim=1)
    plan = ((scores + u.unsqueeze(2) + v.unsqueeze(1)) - norm)[:, :-1, :-1].exp()
    strongest = [torch.max(plan, dim=dim)[0] for dim in (2, 1)]
    votes = network.f(torch.cat(strongest, dim=1).unsqueeze(-1)).sigmoid() * ~torch.cat(hidden, dim=1).unsqueeze(-1)
    return (temperature * votes.sum(dim=(1, 2))).sigmoid().tolist()


def locore_scores(network: LoCoReNetwork, lists: ImageLists) -> torch.Tensor:
    """LoCoRe's logits [B, N, 2] by dense masks: all tokens against all, and what may not be seen is minus infinity."""
    images, own = lists.locals.shape[1], network.shape.per_image
    longformer = network.language_model["longformer"]
    whole = lists.whole.unsqueeze(2)
    separator = longformer.sep_embedding.expand(*lists.locals.shape[:2], 1, -1)
    local = lists.locals + network.scale_encoder(lists.scale)
    place = torch.arange(images * own)
    tokens = torch.cat([whole, local, separator], dim=2).flatten(1, 2)
    tokens = longformer.embeddings(tokens, 2 + place)
    special = (place < own) | (place % own == own - 1)
    for layer, window in zip(longformer.encoder["layer"], network.shape.windows, strict=True):
        near = (place[:, None] - place).abs() <= window // 2
        attention = layer.attention["self"]
        mixed = _dense(attention, tokens, tokens, near | special, "")
        mixed[:, special] = _dense(attention, tokens[:, special], tokens, torch.ones(1, 1, dtype=torch.bool), "_global")
        output = layer.attention["output"]
        tokens = output["LayerNorm"](tokens + output["dense"](mixed))
        hidden = functional.gelu(layer.intermediate["dense"](tokens))
        tokens = layer.output["LayerNorm"](tokens + layer.output["dense"](hidden))
    return network.language_model["classifier"](tokens)


def _dense(
    attention: nn.Module, rows: torch.Tensor, tokens: torch.Tensor, seen: torch.Tensor, kind: str
) -> torch.Tensor:
    query, key, value = (
        getattr(attention, f"{name}{kind}")(source).unflatten(2, (attention.heads, -1)).transpose(1, 2)
        for name, source in (("query", rows), ("key", tokens), ("value", tokens))
    )
    scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
    return (scores.masked_fill(~seen, -torch.inf).softmax(dim=3) @ value).transpose(1, 2).flatten(2)


def _rrt_side(network: RRTNetwork, items: Sequence[Description], number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [B, 501, d] of images as the first (0) or second (1) of a pair, and where they are padding."""
    segments = network.seg_encoder.weight
    vectors = functional.normalize(network.remap(torch.from_numpy(np.stack([item.vector for item in items]))), dim=1)
    rows, padding = [], []
    for item in items:
        local = functional.normalize(torch.from_numpy(item.locals.descriptors), dim=1)
        local = local + network.scale_encoder.weight[2] + segments[number]  # all of the benchmark's are seen at scale 1
        rows.append(functional.pad(local, (0, 0, 0, RRT_LENGTH - len(local))))
        padding.append(torch.arange(RRT_LENGTH) >= len(local))
    tokens = torch.cat([(vectors + segments[4 + number]).unsqueeze(1), torch.stack(rows)], dim=1)
    return tokens, functional.pad(torch.stack(padding), (1, 0))


def _unit(item: Description) -> torch.Tensor:
    return functional.normalize(torch.from_numpy(item.locals.descriptors), dim=1)


@cache
def _official(attention: nn.MultiheadAttention) -> nn.MultiheadAttention:
    """The same weights in the layout of the official code, sequence first, where torch takes no fused path; its calls
    ask for the weights as well, because they do not say otherwise."""
    made = nn.MultiheadAttention(attention.embed_dim, attention.num_heads).eval()
    made.load_state_dict(attention.state_dict())
    return made
