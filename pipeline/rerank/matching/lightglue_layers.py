"""The parts of LightGlue's network: attention in an image, attention between two, and the confidence of tokens.

Used by `lightglue_network.py`. All that is computed row by row lies without padding; only attention pads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import nn

from pipeline.rerank.matching.pair_batches import Rows
from pipeline.rerank.transformer import attend


class Code(NamedTuple):
    """Rotary code of positions: cosines and sines [n, width / heads / 2], one angle for two channels."""

    cos: torch.Tensor
    sin: torch.Tensor

    def rows(self, chosen: torch.Tensor) -> Code:
        """The code of some keypoints."""
        return Code(self.cos[chosen], self.sin[chosen])


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
