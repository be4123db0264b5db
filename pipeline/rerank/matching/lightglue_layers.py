"""The parts of LightGlue's network: attention in an image, attention between two, and what is read off the tokens.

Used by `lightglue_network.py`. All that is computed row by row lies without padding; only attention pads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from pipeline.rerank.matching.pair_batches import Rows
from pipeline.rerank.transformer import attend


class Code(NamedTuple):
    """Rotary code of positions: cosines and sines [n, width / heads / 2], one angle for two channels."""

    cos: torch.Tensor
    sin: torch.Tensor

    def rows(self, chosen: torch.Tensor) -> Code:
        """The code of some keypoints."""
        return Code(self.cos[chosen], self.sin[chosen])


class Part(NamedTuple):
    """Some `rows` [r] and `columns` [c] int64 of a log assignment, and its `scores` [r, c] float32 there."""

    rows: torch.Tensor
    columns: torch.Tensor
    scores: torch.Tensor


@dataclass(frozen=True)
class Side:
    """The first, or the second images of a batch.

    Attributes:
        tokens: [total, d], rows of one image after the other.
        code: of their positions.
        origin: [total] int64, which of the rows that the batch began with it is.
        rows: where the images' rows lie.
    """

    tokens: torch.Tensor
    code: Code
    origin: torch.Tensor
    rows: Rows

    def only(self, kept: torch.Tensor, lengths: torch.Tensor) -> Side:
        """The rows where `kept` [total] bool is True, and how many each of the remaining images then has."""
        chosen = kept.nonzero().squeeze(1)
        return Side(self.tokens[chosen], self.code.rows(chosen), self.origin[chosen], Rows(lengths, chosen.device))


class Positions(nn.Module):
    """Angles of the rotary code, from learnt frequencies."""

    def __init__(self, inputs: int, angles: int) -> None:
        super().__init__()
        self.Wr = nn.Linear(inputs, angles, bias=False)

    def forward(self, positions: torch.Tensor) -> Code:
        """The code of positions [n, inputs]."""
        angles = self.Wr(positions).float()
        return Code(angles.cos(), angles.sin())


class SelfBlock(nn.Module):
    """Attention among the keypoints of an image, with rotary positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        # Rows: queries, keys, values; in each head by head; of the first two, even channels before odd ones.
        self.Wqkv = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.ffn = _feedforward(width)

    def forward(self, tokens: torch.Tensor, code: Code, rows: Rows) -> torch.Tensor:
        """[total, d] to [total, d]."""
        width = tokens.shape[1]
        projected = self.Wqkv(tokens)
        even, odd = projected[:, : 2 * width].view(len(tokens), 2, self.heads, 2, -1).unbind(3)
        cos, sin = code.cos[:, None, None], code.sin[:, None, None]
        turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=3).view(len(tokens), 2, width)
        query, key = (_by_head(rows.padded(part), self.heads) for part in turned.to(projected.dtype).unbind(1))
        value = _by_head(rows.padded(projected[:, 2 * width :]), self.heads)
        message = self.out_proj(rows.joined(attend(query, key, value, rows.mask)))
        updated: torch.Tensor = tokens + self.ffn(torch.cat([tokens, message], dim=1))
        return updated


class CrossBlock(nn.Module):
    """Attention from the keypoints of an image to those of the other; both sides share the weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qk = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.Linear(width, width)
        self.ffn = _feedforward(width)

    def forward(self, first: Side, second: Side) -> tuple[Side, Side]:
        """Both sides with new tokens."""
        keys = [_by_head(side.rows.padded(self.to_qk(side.tokens)), self.heads) for side in (first, second)]
        values = [_by_head(side.rows.padded(self.to_v(side.tokens)), self.heads) for side in (first, second)]
        one = attend(keys[0], keys[1], values[1], second.rows.mask)
        other = attend(keys[1], keys[0], values[0], first.rows.mask)
        return self._updated(first, one), self._updated(second, other)

    def _updated(self, side: Side, mixed: torch.Tensor) -> Side:
        message = self.to_out(side.rows.joined(mixed))
        return replace(side, tokens=side.tokens + self.ffn(torch.cat([side.tokens, message], dim=1)))


class Layer(nn.Module):
    """Self attention of both images, then cross attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = SelfBlock(width, heads)
        self.cross_attn = CrossBlock(width, heads)

    def alone(self, side: Side) -> Side:
        """The first half, which needs no other image."""
        return replace(side, tokens=self.self_attn(side.tokens, side.code, side.rows))


class Assignment(nn.Module):
    """Which keypoints match, from the tokens after a layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.matchability = nn.Linear(width, 1)
        self.final_proj = nn.Linear(width, width)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Log assignment [m, n] float32 of the tokens [m, d] and [n, d] of one pair, without those of no match."""
        one, other = self._projected(first), self._projected(second)
        similarity = (one @ other.T).float()
        # The sum of both log-softmaxes and of the log matchabilities: each but the first is of a row or of a column.
        of_rows = functional.logsigmoid(self.matchable(first)) - similarity.logsumexp(dim=1)
        of_columns = functional.logsigmoid(self.matchable(second)) - similarity.logsumexp(dim=0)
        return similarity.mul_(2).add_(of_rows[:, None]).add_(of_columns)

    def above(self, first: torch.Tensor, second: torch.Tensor, threshold: float) -> Part:
        """The part of the log assignment that can be above log(threshold), with the same values.

        A score is at most the matchability of either keypoint, and of two images that show different things, few
        keypoints have a high one.
        """
        # The margin is far above rounding.
        least = math.log(max(threshold, 1e-30)) - 1e-3
        matchable = [functional.logsigmoid(self.matchable(tokens)) for tokens in (first, second)]
        rows, columns = ((part > least).nonzero().squeeze(1) for part in matchable)
        if not len(rows) or not len(columns):
            return Part(rows, columns, first.new_zeros(len(rows), len(columns)))
        one, other = self._projected(first), self._projected(second)
        across = (one[rows] @ other.T).float()
        of_rows = matchable[0][rows] - across.logsumexp(dim=1)
        of_columns = matchable[1][columns] - (other[columns] @ one.T).float().logsumexp(dim=1)
        return Part(rows, columns, across[:, columns].mul_(2).add_(of_rows[:, None]).add_(of_columns))

    def with_bins(self, scores: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """[m + 1, n + 1]: a log assignment with the row and the column of those without a match; their corner is 0."""
        whole = functional.pad(scores, (0, 1, 0, 1))
        whole[:-1, -1] = functional.logsigmoid(-self.matchable(first))
        whole[-1, :-1] = functional.logsigmoid(-self.matchable(second))
        return whole

    def _projected(self, tokens: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.final_proj(tokens) / tokens.shape[1] ** 0.25
        return projected

    def matchable(self, tokens: torch.Tensor) -> torch.Tensor:
        """[n] float32 logits of tokens [n, d]: whether a keypoint has a match."""
        logits: torch.Tensor = self.matchability(tokens).float().squeeze(1)
        return logits


class Confidence(nn.Module):
    """Whether what is known of a keypoint will not change any more."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Sequential(nn.Linear(width, 1), nn.Sigmoid())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[n] float32 in (0, 1) of tokens [n, d]."""
        confidence: torch.Tensor = self.token(tokens).float().squeeze(1)
        return confidence


def _feedforward(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2 * width, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, width)
    )


def _by_head(padded: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, heads, n, d / heads] of [B, n, d]."""
    return padded.view(*padded.shape[:2], heads, -1).transpose(1, 2)
