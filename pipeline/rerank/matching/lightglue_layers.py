"""The parts of LightGlue's network: attention in an image, attention between two, and the confidence of tokens.

Used by `lightglue_network.py`. All that is computed row by row lies without padding; only attention pads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import nn

from pipeline.rerank.matching.pair_batches import Rows
from pipeline.rerank.transformer import attend


@dataclass(frozen=True)
class Side:
    """The first, or the second images of a batch.

    Attributes:
        tokens: [total, d], rows of one image after the other.
        code: [total, d / heads / 2] complex64, the rotary code of their positions; see `Positions`.
        origin: [total] int64, which of the rows that the batch began with it is.
        rows: where the images' rows lie.
    """

    tokens: torch.Tensor
    code: torch.Tensor
    origin: torch.Tensor
    rows: Rows

    def only(self, kept: torch.Tensor, lengths: torch.Tensor) -> Side:
        """The rows where `kept` [total] bool is True, and how many each of the remaining images then has."""
        chosen = kept.nonzero().squeeze(1)
        tokens, code, origin = (part.index_select(0, chosen) for part in (self.tokens, self.code, self.origin))
        return Side(tokens, code, origin, Rows(lengths, chosen.device))


class Positions(nn.Module):
    """The rotary code, from learnt frequencies: one angle for two channels."""

    def __init__(self, inputs: int, angles: int) -> None:
        super().__init__()
        self.Wr = nn.Linear(inputs, angles, bias=False)

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """[n, angles] complex64 of length 1 for positions [n, inputs]."""
        angles = self.Wr(positions).float()
        return torch.complex(angles.cos(), angles.sin())


class FeedForward(nn.Module):
    """What attention mixed is added to the tokens through a perceptron of both; for inference.

    The projection behind attention is a part of its first layer (`lightglue_weights.py`), and the two inputs of that
    have a product each, instead of being copied beside each other.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_tokens = nn.Linear(width, 2 * width)
        self.of_mixed = nn.Linear(width, 2 * width, bias=False)
        self.rest = nn.Sequential(nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """New tokens [total, d] of tokens and the attended values, both [total, d]."""
        norm, last = self.rest[0], cast(nn.Linear, self.rest[2])
        if torch.is_autocast_enabled(tokens.device.type):  # which knows no products in place, and adds in float32
            added: torch.Tensor = self.rest(torch.addmm(self.of_tokens(tokens), mixed, self.of_mixed.weight.T))
            return tokens + added
        hidden = norm(self.of_tokens(tokens).addmm_(mixed, self.of_mixed.weight.T))
        return (tokens + last.bias).addmm_(torch.ops.aten.gelu_(hidden), last.weight.T)


class SelfBlock(nn.Module):
    """Attention among the keypoints of an image, with rotary positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.Wqkv = nn.Linear(width, 3 * width)  # rows: queries, keys, values; in each head by head
        self.ffn = FeedForward(width)

    def forward(self, tokens: torch.Tensor, code: torch.Tensor, rows: Rows) -> torch.Tensor:
        """[total, d] to [total, d]."""
        width = tokens.shape[1]
        projected = self.Wqkv(tokens)
        # Two channels are a complex number, so that one product turns them.
        channels = torch.view_as_complex(projected[:, : 2 * width].float().unflatten(1, (2, self.heads, -1, 2)))
        turned = torch.empty(channels.transpose(0, 1).shape, dtype=channels.dtype, device=channels.device)
        torch.mul(channels.transpose(0, 1), code[:, None], out=turned)
        both = torch.view_as_real(turned).flatten(2).to(projected.dtype)
        query, key = (_by_head(rows.padded(part), self.heads) for part in both)
        value = _by_head(rows.padded(projected[:, 2 * width :]), self.heads)
        updated: torch.Tensor = self.ffn(tokens, rows.joined(attend(query, key, value, rows.mask)))
        return updated


class CrossBlock(nn.Module):
    """Attention from the keypoints of an image to those of the other; both sides share the weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qk = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.ffn = FeedForward(width)

    def forward(self, first: Side, second: Side) -> tuple[Side, Side]:
        """Both sides with new tokens."""
        keys = [_by_head(side.rows.padded(self.to_qk(side.tokens)), self.heads) for side in (first, second)]
        values = [_by_head(side.rows.padded(self.to_v(side.tokens)), self.heads) for side in (first, second)]
        one = attend(keys[0], keys[1], values[1], second.rows.mask)
        other = attend(keys[1], keys[0], values[0], first.rows.mask)
        return self._updated(first, one), self._updated(second, other)

    def _updated(self, side: Side, mixed: torch.Tensor) -> Side:
        return replace(side, tokens=self.ffn(side.tokens, side.rows.joined(mixed)))


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


def _by_head(padded: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, heads, n, d / heads] of [B, n, d]."""
    return padded.view(*padded.shape[:2], heads, -1).transpose(1, 2)
