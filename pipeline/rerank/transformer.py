"""Post-norm transformer layers with PyTorch's parameter names, as fast as they are exact.

What the networks of `rrt`, `rrt_sop` and `ames` are built of. Attention is `scaled_dot_product_attention`, and the last
layer computes nothing but the one token that is read. Vaswani et al., "Attention Is All You Need", NeurIPS 2017.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from pipeline.errors import UsageError

Precision = Literal["float32", "bfloat16", "float16"]

_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class EncoderLayer(nn.Module):
    """One layer: self attention, then a feed-forward block, each added to its input and normalised.

    Args:
        width: d of the tokens [B, n, d].
        heads, feedforward: sizes.
        dropout: in training; of the attention, of both blocks and inside the second.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.self_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None = None, first_only: bool = False) -> torch.Tensor:
        """Tokens [B, n, d] to tokens [B, n, d], or [B, 1, d] of the first one; `mask` is one of `additive_mask`."""
        kept = tokens[:, :1] if first_only else tokens
        (query,) = project(self.self_attn, kept, "q")
        key, value = project(self.self_attn, tokens, "kv")
        mixed = attend(query, key, value, mask, self.dropout if self.training else 0.0)
        kept = self.norm1(kept + self._dropped(self.self_attn.out_proj(mixed)))
        hidden = self._dropped(functional.relu(self.linear1(kept), inplace=True))
        result: torch.Tensor = self.norm2(kept + self._dropped(self.linear2(hidden)))
        return result

    def _dropped(self, values: torch.Tensor) -> torch.Tensor:
        return functional.dropout(values, self.dropout, self.training) if self.dropout else values


class Encoder(nn.Module):
    """Layers one after the other; all start from the same values."""

    def __init__(self, width: int, heads: int, feedforward: int, layers: int, dropout: float = 0.0) -> None:
        super().__init__()
        layer = EncoderLayer(width, heads, feedforward, dropout)
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(layers))

    def forward(self, tokens: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """The first token [B, d] after the last layer.

        Args:
            tokens: [B, n, d].
            padding: [B, n] bool, True where a token is none and has no effect; None: there is no such place.
        """
        mask = None if padding is None else additive_mask(padding)
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            tokens = layer(tokens, mask, first_only=number == last)
        return tokens[:, 0]


def project(attention: nn.MultiheadAttention, tokens: torch.Tensor, what: str = "qkv") -> tuple[torch.Tensor, ...]:
    """Queries, keys and values [B, heads, n, d / heads] of tokens [B, n, d]; `what` is a part of "qkv"."""
    width = attention.embed_dim
    rows = slice("qkv".index(what[0]) * width, ("qkv".index(what[-1]) + 1) * width)
    projected = functional.linear(tokens, attention.in_proj_weight[rows], attention.in_proj_bias[rows])
    split = projected.view(*tokens.shape[:2], len(what), attention.num_heads, width // attention.num_heads)
    return split.permute(2, 0, 3, 1, 4).unbind(0)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Attention of queries [B, heads, n, d / heads] over m keys and values; [B, n, d], not yet projected."""
    cast = None if mask is None else mask.to(query.dtype)
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=cast, dropout_p=dropout)
    return mixed.transpose(1, 2).flatten(2)


def additive_mask(padding: torch.Tensor) -> torch.Tensor:
    """[B, 1, 1, n] float32 to be added to attention: minus infinity for keys that are padding [B, n] bool."""
    zeros = torch.zeros(padding.shape, device=padding.device)
    return zeros.masked_fill(padding, float("-inf"))[:, None, None]


@contextmanager
def inference(device: torch.device, precision: Precision) -> Iterator[None]:
    """Without gradients; matrix products in `precision`."""
    kind = _TYPES.get(precision)
    with torch.inference_mode(), torch.autocast(device.type, dtype=kind, enabled=kind is not None):
        yield


def check_precision(reranker: str, precision: str, device: str) -> Precision:
    """`precision` as it is. Raises UsageError when it is unknown, or float16 on a CPU, which lacks some operations."""
    if precision == "float32":
        return "float32"
    if precision not in _TYPES:
        raise UsageError(f"reranker {reranker}: precision = {precision!r}; known: float32, {', '.join(_TYPES)}")
    if precision == "float16" and torch.device(device).type == "cpu":
        raise UsageError(f"reranker {reranker}: precision = float16 needs a GPU; use bfloat16 or float32")
    return "bfloat16" if precision == "bfloat16" else "float16"
