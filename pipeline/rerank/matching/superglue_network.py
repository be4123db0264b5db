"""SuperGlue's network (Sarlin, DeTone, Malisiewicz, Rabinovich, CVPR 2020), for batches of pairs of any lengths.

Used by `superglue.py`. Written from the paper; the names of the parameters are those of the official files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import nn

from pipeline.rerank.matching.pair_batches import Rows
from pipeline.rerank.transformer import attend

# One image of each pair of a batch: tokens [total, d], and where the images' rows lie.
Side = tuple[torch.Tensor, Rows]


@dataclass(frozen=True)
class SuperGlueShape:
    """Sizes of a network; the defaults are the paper's.

    Attributes:
        width: d of the descriptors.
        encoder: channels between the input of the keypoint encoder and d.
        layers: of attention, in an image and between two in turn.
        heads: of attention.
    """

    width: int = 256
    encoder: Sequence[int] = (32, 64, 128, 256)
    layers: int = 18
    heads: int = 4


class Attention(nn.Module):
    """Attention from the rows of one image to those of another, or to its own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        # Channels of queries, keys and values head by head; official files have them in turns.
        self.merge = nn.Linear(width, width)
        self.proj = nn.ModuleList(nn.Linear(width, width) for _ in range(3))

    def forward(self, side: Side, source: Side) -> torch.Tensor:
        """The message [total, d] to every row of `side`."""
        (tokens, rows), (others, of_source) = side, source
        query = self._by_head(rows.padded(self.proj[0](tokens)))
        key, value = (self._by_head(of_source.padded(self.proj[part](others))) for part in (1, 2))
        message: torch.Tensor = self.merge(rows.joined(attend(query, key, value, of_source.mask)))
        return message

    def _by_head(self, padded: torch.Tensor) -> torch.Tensor:
        return padded.view(*padded.shape[:2], self.heads, -1).transpose(1, 2)


class Propagation(nn.Module):
    """One layer: a message, and what it adds to each row."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.mlp = perceptron([2 * width, 2 * width, width])

    def forward(self, side: Side, source: Side) -> Side:
        """`side` with new tokens."""
        tokens, rows = side
        return tokens + self.mlp(torch.cat([tokens, self.attn(side, source)], dim=1)), rows


class KeypointEncoder(nn.Module):
    """Where a keypoint is and how sure its detector was, as a vector."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.encoder = perceptron(channels)


class Graph(nn.Module):
    """All layers, each a `Propagation`."""

    def __init__(self, shape: SuperGlueShape) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Propagation(shape.width, shape.heads) for _ in range(shape.layers))


class SuperGlueNetwork(nn.Module):
    """Matches two sets of keypoints by attention and optimal transport. For inference."""

    def __init__(self, shape: SuperGlueShape) -> None:
        super().__init__()
        self.shape = shape
        self.kenc = KeypointEncoder([3, *shape.encoder, shape.width])
        self.gnn = Graph(shape)
        self.final_proj = nn.Linear(shape.width, shape.width)
        self.bin_score = nn.Parameter(torch.tensor(1.0))

    def begin(self, descriptors: torch.Tensor, places: torch.Tensor, rows: Rows) -> Side:
        """Tokens of descriptors [total, d] and places [total, 3], which are normalised x and y, and the score."""
        return descriptors + self.kenc.encoder(places), rows

    def forward(self, first: Side, second: Side) -> torch.Tensor:
        """Couplings [B, m, n] of the pairs of a batch, where padding has no meaning.

        Args:
            first, second: what `begin` gives, of the first and of the second images.
        """
        for number, module in enumerate(self.gnn.layers):
            layer = cast(Propagation, module)
            across = number % 2 == 1
            one = layer(first, second if across else first)
            second = layer(second, first if across else second)
            first = one
        rows, columns = (side[1].padded(self.final_proj(side[0])).float() for side in (first, second))
        couplings: torch.Tensor = rows @ columns.transpose(1, 2) / self.shape.width**0.5
        return couplings


def transport(
    couplings: torch.Tensor, bin_score: torch.Tensor, counts: tuple[torch.Tensor, torch.Tensor], iterations: int
) -> torch.Tensor:
    """Log assignment [B, m + 1, n + 1] by Sinkhorn's algorithm, rows first; the last row and column are the bins.

    Args:
        couplings: [B, m, n].
        bin_score: scalar, the coupling with a bin.
        counts: [B] int64 of each image's rows; those beyond are padding, which no sum includes.
        iterations: of the algorithm.

    Returns:
        Logarithms of the paper's P, whose real rows and columns each sum to 1 and whose bins sum to the number of the
        others' rows; minus infinity in padding.
    """
    rows, columns = (count.to(couplings.device).float() for count in counts)
    real = [
        torch.arange(size, device=couplings.device) < count.to(couplings.device)[:, None]
        for size, count in zip(couplings.shape[1:], counts, strict=True)
    ]
    real = [torch.cat([part, part.new_ones(len(part), 1)], dim=1) for part in real]
    scores = bin_score.expand(len(couplings), couplings.shape[1] + 1, couplings.shape[2] + 1).clone()
    scores[:, :-1, :-1] = couplings
    scores = scores.masked_fill(~(real[0][:, :, None] & real[1][:, None, :]), float("-inf"))
    norm = -(rows + columns).log()[:, None]
    of_rows, of_columns = (norm.expand(part.shape).clone() for part in real)
    of_rows[:, -1] += columns.log()
    of_columns[:, -1] += rows.log()
    u, v = torch.zeros_like(of_rows), torch.zeros_like(of_columns)
    for _ in range(iterations):
        # Rows of padding have no sum: their potential stays 0, and so they change nothing.
        u = (of_rows - (scores + v[:, None, :]).logsumexp(dim=2)).masked_fill(~real[0], 0)
        v = (of_columns - (scores + u[:, :, None]).logsumexp(dim=1)).masked_fill(~real[1], 0)
    return scores + u[:, :, None] + v[:, None, :] - norm[:, :, None]


def perceptron(channels: Sequence[int]) -> nn.Sequential:
    """Linear layers, each but the last followed by BatchNorm and ReLU."""
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(channels)):
        if number:
            layers += [nn.BatchNorm1d(inputs), nn.ReLU()]
        layers.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*layers)
