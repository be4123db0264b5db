"""LoCoRe's network: a query and a list of candidates in, two logits for every token out.

Used by the reranker `locore` and trained by `train-rerank`. Xiao et al., "LoCoRe: Image Re-ranking with Long-Context
Sequence Modeling", CVPR 2025, section 3, with the parameter names of the official checkpoints. One sequence holds the
query, then the candidates in the order of their list; every image is [global descriptor, local descriptors, separator].
The tokens of the query and all separators are global in the attention, so that every candidate meets the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pipeline.rerank.locore.attention import LongformerAttention, Plan
from pipeline.rerank.locore.shape import FIRST_POSITION, Aggregation, LoCoReShape


@dataclass(frozen=True)
class ImageLists:
    """B queries with G candidates each: the query is the first of 1 + G images.

    Attributes:
        locals: [B, 1 + G, L, d_local] local descriptors.
        scale: [B, 1 + G, L] int64, rows of the scale table.
        padding: [B, 1 + G, L] bool, True where there is no descriptor; what stands there influences no other token.
        whole: [B, 1 + G, d_global] global descriptors; None where images have no global token.
    """

    locals: torch.Tensor
    scale: torch.Tensor
    padding: torch.Tensor
    whole: torch.Tensor | None

    @classmethod
    def joined(cls, parts: Sequence[ImageLists]) -> ImageLists:
        """All lists of all parts, which have equally many candidates."""
        whole = [part.whole for part in parts if part.whole is not None]
        return cls(
            torch.cat([part.locals for part in parts]),
            torch.cat([part.scale for part in parts]),
            torch.cat([part.padding for part in parts]),
            torch.cat(whole) if whole else None,
        )

    def to(self, device: torch.device) -> ImageLists:
        """The same on another device."""
        whole = None if self.whole is None else self.whole.to(device)
        return ImageLists(self.locals.to(device), self.scale.to(device), self.padding.to(device), whole)


class _Embeddings(nn.Module):
    """Adds positions and the type, then normalises."""

    def __init__(self, shape: LoCoReShape) -> None:
        super().__init__()
        self.position_embeddings = nn.Embedding(shape.positions, shape.width)
        self.token_type_embeddings = nn.Embedding(1, shape.width)
        self.LayerNorm = nn.LayerNorm(shape.width)

    def forward(self, tokens: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """[B, N, d] of tokens [B, N, d]; `rows` [N] of the position table."""
        known = self.position_embeddings(rows) + self.token_type_embeddings.weight[0]
        normalised: torch.Tensor = self.LayerNorm(tokens + known)
        return normalised


class _Layer(nn.Module):
    """Attention, then a feed-forward block with an exact GELU; each is added to its input and normalised."""

    def __init__(self, shape: LoCoReShape, window: int) -> None:
        super().__init__()
        width = shape.width
        self.attention = nn.ModuleDict(
            {"self": LongformerAttention(width, shape.heads, window), "output": _residual(width, width)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, shape.feedforward)})
        self.output = _residual(shape.feedforward, width)

    def forward(self, tokens: torch.Tensor, plan: Plan, keep: torch.Tensor | None = None) -> torch.Tensor:
        """[B, N, d] of tokens [B, N, d], or [B, k, d] of those that `keep` [k] names, none of which are global."""
        mixed = self.attention["self"](tokens, plan, global_too=keep is None)
        if keep is not None:
            tokens, mixed = tokens[:, keep], mixed[:, keep]
        tokens = _add(self.attention["output"], tokens, mixed)
        return _add(self.output, tokens, functional.gelu(self.intermediate["dense"](tokens)))


class _Longformer(nn.Module):
    """The transformer, with the two vectors that stand between and behind images."""

    def __init__(self, shape: LoCoReShape) -> None:
        super().__init__()
        self.sep_embedding = nn.Parameter(torch.randn(shape.width) * 0.02)
        # Stands behind the sequence in the official code, where nothing sees it; kept so that files stay equal.
        self.pad_embedding = nn.Parameter(torch.zeros(shape.width), requires_grad=False)
        self.embeddings = _Embeddings(shape)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer(shape, window) for window in shape.windows)})


class LoCoReNetwork(nn.Module):
    """Classifies every token of a query and its candidates: 1, of the same thing as the query, or 0."""

    def __init__(self, shape: LoCoReShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.language_model = nn.ModuleDict({"longformer": _Longformer(shape), "classifier": nn.Linear(width, 2)})
        self.scale_encoder = nn.Embedding(shape.scales, width)
        if shape.project_local:
            self.local_to_lm = _projection(shape, shape.d_local)
        if shape.project_global:
            self.global_to_lm = _projection(shape, shape.d_global)
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=0.02)  # as BERT and its descendants start
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)

    def forward(self, lists: ImageLists, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Logits [B, N, 2] of all N = (1 + G) * per_image tokens.

        Args:
            lists: B queries and their candidates.
            keep: [k] int64, tokens of candidates, without separators: the result is [B, k, 2]. None: all tokens.
        """
        return self.logits_of(*self.tokens(lists), keep)

    def logits_of(self, tokens: torch.Tensor, padding: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """As `forward`, of what `tokens` gives."""
        logits: torch.Tensor = self.language_model["classifier"](self._hidden(tokens, padding, keep))
        return logits

    def hidden(self, lists: ImageLists, keep: torch.Tensor | None = None) -> torch.Tensor:
        """The tokens [B, N, d] after the last layer; see `forward`."""
        return self._hidden(*self.tokens(lists), keep)

    def _hidden(self, tokens: torch.Tensor, padding: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        longformer: Any = self.language_model["longformer"]
        images = tokens.shape[1]
        plan = Plan(self._is_global(images).to(tokens.device), padding.flatten(1) if padding.any() else None)
        states: torch.Tensor = longformer.embeddings(tokens.flatten(1, 2), self._positions(images).to(tokens.device))
        last = len(longformer.encoder["layer"]) - 1
        for number, layer in enumerate(longformer.encoder["layer"]):
            states = layer(states, plan, keep if number == last else None)
        return states

    def candidate_tokens(self, candidates: int) -> torch.Tensor:
        """[G, per_image - 1] int64: where the tokens of each candidate are in the sequence, without separators."""
        places = torch.arange((1 + candidates) * self.shape.per_image).view(1 + candidates, -1)
        return places[1:, :-1]

    def tokens_read(self, candidates: int) -> torch.Tensor:
        """[G, T] int64: those tokens of each candidate that its score is made of."""
        tokens = self.candidate_tokens(candidates)
        if self.shape.aggregation == "max-start":
            return tokens[:, :1]
        return tokens[:, -1:] if self.shape.aggregation == "max-end" and self.shape.padding_counts else tokens

    def counted(self, lists: ImageLists) -> torch.Tensor | None:
        """[B, G, T] bool: which of `tokens_read` are aggregated; None: all."""
        if self.shape.padding_counts or self.shape.aggregation == "max-start":
            return None
        return self.descriptors_there(lists)

    def descriptors_there(self, lists: ImageLists) -> torch.Tensor:
        """[B, G, per_image - 1] bool: which of `candidate_tokens` are descriptors, and no padding."""
        there = ~lists.padding[:, 1:]
        return functional.pad(there, (1, 0), value=True) if self.shape.global_token else there

    def tokens(self, lists: ImageLists) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, 1 + G, per_image, d] tokens before positions, and [B, 1 + G, per_image] where they are padding."""
        shape = self.shape
        local = self.local_to_lm(lists.locals) if shape.project_local else lists.locals
        local = local + self.scale_encoder(lists.scale)
        longformer: Any = self.language_model["longformer"]
        separator = longformer.sep_embedding.expand(*local.shape[:2], 1, -1)
        parts, there = [local, separator.to(local.dtype)], lists.padding.new_zeros(*local.shape[:2], 1)
        padding = [lists.padding, there]
        if shape.global_token:
            assert lists.whole is not None, "this network reads a global descriptor of every image"
            whole = self.global_to_lm(lists.whole) if shape.project_global else lists.whole
            parts, padding = [whole.unsqueeze(2).to(local.dtype), *parts], [there, *padding]
        return torch.cat(parts, dim=2), torch.cat(padding, dim=2)

    def _is_global(self, images: int) -> torch.Tensor:
        found = torch.zeros(images, self.shape.per_image, dtype=torch.bool)
        found[:, -1] = True
        found[0] |= self.shape.query_global
        return found.flatten()

    def _positions(self, images: int) -> torch.Tensor:
        """[N] rows of the position table."""
        rows = torch.arange(images * self.shape.per_image)
        if self.shape.position_rule == "segment":
            rows = rows // self.shape.per_image
        return FIRST_POSITION + (torch.zeros_like(rows) if self.shape.position_rule == "no" else rows)


def aggregate(values: torch.Tensor, how: Aggregation, counted: torch.Tensor | None = None) -> torch.Tensor:
    """Scores [..., G] of candidates from the values of class 1 at their tokens, separators left out.

    Args:
        values: [..., G, T].
        how: "max-start", the first token, which is the global one where there is one; "max-end", the last; "max-sum"
            and "max-prod", the sum and the product of all; "mean", which the paper has not: the mean.
        counted: [..., G, T] bool, the tokens that count; None: all. Where none counts, the first does.
    """
    if how == "max-start":
        return values[..., 0]
    if how == "max-end":
        if counted is None:
            return values[..., -1]
        last = (counted * torch.arange(values.shape[-1], device=values.device)).argmax(dim=-1, keepdim=True)
        return values.gather(-1, last).squeeze(-1)
    if how == "max-prod":
        return (values if counted is None else values.masked_fill(~counted, 1)).prod(dim=-1)
    total = (values if counted is None else values.masked_fill(~counted, 0)).sum(dim=-1)
    if how == "max-sum":
        return total
    return total / (values.shape[-1] if counted is None else counted.sum(dim=-1).clamp(min=1))


def _projection(shape: LoCoReShape, width: int) -> nn.Module:
    if shape.bottleneck is None:
        return nn.Linear(width, shape.width)
    return nn.Sequential(nn.Linear(width, shape.bottleneck), nn.Linear(shape.bottleneck, shape.width))


def _residual(inputs: int, width: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(inputs, width), "LayerNorm": nn.LayerNorm(width)})


def _add(output: nn.Module, tokens: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    parts: Any = output
    result: torch.Tensor = parts["LayerNorm"](tokens + parts["dense"](mixed))
    return result
