"""Longformer's attention, block by block: a window of neighbours, and tokens that see and are seen by all.

Below the network of `locore`. Beltagy, Peters, Cohan, "Longformer: The Long-Document Transformer", 2020, section 3.1:
a token attends to keys at a distance of at most half the window and to the global tokens; a global token attends to all
tokens by queries, keys and values of its own. Consecutive tokens share a block of keys, so that nothing of N x N values
is ever made; the global tokens are computed exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from torch.nn import functional

# Tokens whose keys are gathered together.
_BLOCK = 128


@dataclass(frozen=True)
class Plan:
    """Which tokens of B sequences of N tokens see which; the same in all layers.

    Attributes:
        is_global: [N] bool, tokens that are global in every sequence, at least one of them not padding.
        padding: [B, N] bool: never keys, and their attention is 0; also where `is_global` is True. None: nowhere.
    """

    is_global: torch.Tensor
    padding: torch.Tensor | None

    @cached_property
    def global_rows(self) -> torch.Tensor:
        """[g] int64: where the global tokens are."""
        return self.is_global.nonzero().squeeze(1)

    def band(self, radius: int, block: int) -> torch.Tensor:
        """[B or 1, blocks, block, block + 2 radius + g] float32 to be added to attention: 0 or minus infinity.

        Keys of a block are those from `radius` before it to `radius` behind it, which are never global ones, then the
        global ones.
        """
        count, device = len(self.is_global), self.is_global.device
        blocks = -(-count // block)
        first = torch.arange(blocks, device=device)[:, None, None] * block
        query = first + torch.arange(block, device=device)[None, :, None]
        key = first - radius + torch.arange(block + 2 * radius, device=device)[None, None, :]
        near = ((query - key).abs() <= radius) & (key >= 0) & (key < count)
        seen = ~self.is_global if self.padding is None else ~(self.is_global | self.padding)
        keys = seen.view(-1, count)[:, key.clamp(0, count - 1)]
        inside = near & keys
        everywhere = torch.ones(1, len(self.global_rows), dtype=torch.bool, device=device)
        if self.padding is not None:
            everywhere = ~self.padding[:, self.global_rows]
        everywhere = everywhere[:, None, None].expand(len(inside), blocks, block, -1)
        return _additive(torch.cat([inside, everywhere], dim=3))

    @cached_property
    def keys(self) -> torch.Tensor | None:
        """[B, 1, 1, N] float32, minus infinity where a key is padding; None where none is."""
        return None if self.padding is None else _additive(~self.padding)[:, None, None]


class LongformerAttention(nn.Module):
    """Attention of one layer, with the parameter names of its published implementations.

    Args:
        width: of tokens.
        heads: that divide it.
        window: keys that a token sees, half of them on either side.
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.query_global, self.key_global, self.value_global = (nn.Linear(width, width) for _ in range(3))

    def forward(self, tokens: torch.Tensor, plan: Plan, global_too: bool = True) -> torch.Tensor:
        """[B, N, d] of tokens [B, N, d]; with `global_too` False the rows of the global tokens have no meaning."""
        mixed = self._local(tokens, plan)
        if global_too:
            rows = plan.global_rows
            mixed = mixed.index_copy(1, rows, self._global(tokens, plan, rows).to(mixed.dtype))
        return mixed if plan.padding is None else mixed.masked_fill(plan.padding.unsqueeze(2), 0)

    def _local(self, tokens: torch.Tensor, plan: Plan) -> torch.Tensor:
        batch, count, width = tokens.shape
        radius, block = min(self.window // 2, count - 1), min(_BLOCK, count)
        blocks = -(-count // block)
        query = functional.pad(self.query(tokens), (0, 0, 0, blocks * block - count))
        query = self._split(query.view(batch * blocks, block, width))
        rows = plan.global_rows
        key, value = (self._windows(part(tokens), rows, radius, block) for part in (self.key, self.value))
        mask = plan.band(radius, block).to(query.dtype)
        mask = mask.expand(batch, -1, -1, -1).reshape(batch * blocks, 1, block, -1)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return mixed.transpose(1, 2).reshape(batch, blocks * block, width)[:, :count]

    def _global(self, tokens: torch.Tensor, plan: Plan, rows: torch.Tensor) -> torch.Tensor:
        query = self._split(self.query_global(tokens[:, rows]))
        key, value = self._split(self.key_global(tokens)), self._split(self.value_global(tokens))
        mask = None if plan.keys is None else plan.keys.to(query.dtype)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return mixed.transpose(1, 2).flatten(2)

    def _windows(self, values: torch.Tensor, rows: torch.Tensor, radius: int, block: int) -> torch.Tensor:
        """[B * blocks, heads, block + 2 radius + g, d / heads]: the keys or values that each block sees."""
        batch, count, width = values.shape
        blocks = -(-count // block)
        padded = functional.pad(values, (0, 0, radius, blocks * block - count + radius))
        windows = padded.unfold(1, block + 2 * radius, block).transpose(2, 3)
        everywhere = values[:, None, rows].expand(-1, blocks, -1, -1)
        return self._split(torch.cat([windows, everywhere], dim=2).view(batch * blocks, -1, width))

    def _split(self, values: torch.Tensor) -> torch.Tensor:
        """[B, n, d] to [B, heads, n, d / heads]."""
        return values.view(*values.shape[:2], self.heads, values.shape[2] // self.heads).transpose(1, 2)


def _additive(allowed: torch.Tensor) -> torch.Tensor:
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill(~allowed, float("-inf"))
