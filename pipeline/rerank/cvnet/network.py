"""CVNet-Rerank's network: the 4-D correlation of two images' maps, and what learns to read it.

Used by the reranker `cvnet`. Lee, Seong, Lee, Kim, "Correlation Verification for Image Retrieval", CVPR 2022, section
3.3, with the official code's details and parameter names. Maps of a level are [C, h, w]; a correlation volume is [B,
L * L, hq, wq, hk, wk], where channel i * L + j compares level i of the query with level j of the candidate.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

# Channels, kernel and stride of each block's convolutions.
_BLOCKS = (
    ((16, 5, 2),),
    ((16, 3, 1), (32, 3, 2)),
    ((32, 3, 1), (32, 3, 1), (64, 3, 2)),
    ((64, 3, 1), (64, 3, 1), (128, 3, 1)),
)
_GROUPS = 4


def expand(levels: Sequence[torch.Tensor]) -> torch.Tensor:
    """All levels of B images at the size of their largest one, cells of unit length before: [B, L, C, h, w].

    Args:
        levels: [B, C, h_l, w_l] each.

    Resizing a volume of cosines is linear in each of its two images. So the products of what is resized here are the
    official code's resized cosines, and no volume has to be resized.
    """
    height = max(level.shape[-2] for level in levels)
    width = max(level.shape[-1] for level in levels)
    return torch.stack(
        [
            functional.interpolate(
                functional.normalize(level, dim=1), (height, width), mode="bilinear", align_corners=True
            )
            for level in levels
        ],
        dim=1,
    )


def correlate(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """The correlation volumes of B pairs, negative values cut off.

    Args:
        query: [L, C, hq, wq] of `expand`, the same in all pairs, or [B, L, C, hq, wq].
        keys: [B, L, C, hk, wk], or one of them without B.

    Returns:
        [B, hq, wq, L * L, hk, wk]: each cell of the query has a picture of the candidate, which is what a convolution
        over the candidate reads.
    """
    cells = query.flatten(-2).movedim(-1, -3).flatten(-3, -2)
    columns = keys.flatten(-2).movedim(-3, -2).flatten(-2)
    volume = torch.matmul(cells, columns).relu_()
    return volume.view(len(volume), *query.shape[-2:], -1, *keys.shape[-2:])


class CentrePivotConv4d(nn.Module):
    """A 4-D convolution in two halves: over the query's positions, and over the candidate's (HSNet, Min et al.,
    2021)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.conv2 = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """[B, C, hq, wq, hk, wk] to [B, C', hq', wq', hk', wk'], sides divided by the stride and rounded up."""
        step = self.stride
        over_query = volume[..., ::step, ::step].permute(0, 4, 5, 1, 2, 3)
        over_key = volume[:, :, ::step, ::step].permute(0, 2, 3, 1, 4, 5)
        return self.join(over_query, over_key, self.conv1.weight)

    def join(self, over_query: torch.Tensor, over_key: torch.Tensor, query_weight: torch.Tensor) -> torch.Tensor:
        """The sum of both halves.

        Args:
            over_query: [B, hk', wk', C, hq, wq], the candidate's positions taken in steps already.
            over_key: [B, hq', wq', C, hk, wk], the query's positions taken in steps already.
            query_weight: of `conv1`, with its input channels in the order of `over_query`.
        """
        conv = self.conv1
        first = functional.conv2d(over_query.flatten(0, 2), query_weight, conv.bias, conv.stride, conv.padding)
        second: torch.Tensor = self.conv2(over_key.flatten(0, 2))
        first = first.view(*over_query.shape[:3], *first.shape[1:]).permute(0, 3, 4, 5, 1, 2)
        second = second.view(*over_key.shape[:3], *second.shape[1:]).permute(0, 3, 1, 2, 4, 5)
        return first + second


class CVLearner(nn.Module):
    """Reads correlation volumes: four blocks of 4-D convolutions, then a perceptron with two outputs.

    Args:
        levels: L, of the maps that are compared.
    """

    block1: nn.Sequential
    block2: nn.Sequential
    block3: nn.Sequential
    block4: nn.Sequential

    def __init__(self, levels: int = 3) -> None:
        super().__init__()
        self.levels = levels
        self.block1, self.block2, self.block3, self.block4 = _blocks(levels * levels)
        width = _BLOCKS[-1][-1][0]
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Logits [B, 2] of B pairs.

        Args:
            query: [L, C, hq, wq] of `expand`, the same in all pairs, or [B, L, C, hq, wq].
            keys: [B, L, C, hk, wk] of `expand`.

        The first convolution reads each half of the volume in steps of its stride, so only those are computed: half of
        the whole volume.
        """
        first, *rest = self.block1.children()
        assert isinstance(first, CentrePivotConv4d)
        step = first.stride
        over_key = correlate(query[..., ::step, ::step], keys)
        over_query = correlate(keys[..., ::step, ::step], query)
        volume = first.join(over_query, over_key, self._swapped(first))
        for layer in rest:
            volume = layer(volume)
        for block in (self.block2, self.block3, self.block4):
            volume = block(volume)
        logits: torch.Tensor = self.mlp(volume.mean(dim=(2, 3, 4, 5)))
        return logits

    def correlations(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """The whole correlation volumes [B, L * L, hq, wq, hk, wk], to look at; `forward` computes half of them."""
        return correlate(query, keys).permute(0, 3, 1, 2, 4, 5)

    def _swapped(self, convolution: CentrePivotConv4d) -> torch.Tensor:
        """The weight of `conv1` for channels j * L + i: the order in which the candidate's cells meet the query's."""
        weight = convolution.conv1.weight
        split = weight.view(weight.shape[0], self.levels, self.levels, *weight.shape[2:])
        return split.transpose(1, 2).reshape(weight.shape)


def _blocks(inputs: int) -> list[nn.Sequential]:
    blocks = []
    for block in _BLOCKS:
        layers: list[nn.Module] = []
        for outputs, kernel, stride in block:
            layers += [CentrePivotConv4d(inputs, outputs, kernel, stride), nn.GroupNorm(_GROUPS, outputs), nn.ReLU()]
            inputs = outputs
        blocks.append(nn.Sequential(*layers))
    return blocks
