"""The Reranking Transformer's network: two images' descriptors in, one logit out.

Used by the reranker `rrt` and trained by `train-rerank`. Tan, Yuan, Ordonez, "Instance-level Image Retrieval using
Reranking Transformers", ICCV 2021, section 3.2, with the parameter names of the official landmark checkpoints.
"""

from __future__ import annotations

import bisect
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from pipeline.types import FloatArray

# DELG's seven scales, as float32 wrote them. Only the official code's comparison in float64 needs these digits.
SCALES = (0.5, 0.70710677, 1.0, 1.41421354, 2.0, 2.82842708, 4.0)

# Logits per unit of cosine that a skip starts with: a pair is then told apart at a cosine of some tenths.
_SKIP = 10.0

ScaleRule = Literal["nearest", "official"]


@dataclass(frozen=True)
class RRTShape:
    """Sizes of a network; the defaults are the paper's for landmarks.

    Attributes:
        d_global: of the global descriptors.
        d_model: of the local descriptors and of every token.
        heads, layers, feedforward: of the transformer.
        dropout: in training.
        scale_rule: "official" gives a scale the index of the largest table entry that is not above it, compared in
            float64 as the official code does, so that 0.7071 falls under 0.5; "nearest" takes the nearest entry.
        token_length: length that descriptors have as tokens; the official networks leave them at 1.
        locals: how many local descriptors an image gives, its strongest; None: all that there are.
        symmetric: score a pair by the mean logit of both orders.
        skip: add a learnt multiple of the cosine of the two projected global descriptors to the logit, so that the
            transformer has only to learn what that cosine does not say. Not in the paper.
    """

    d_global: int = 2048
    d_model: int = 128
    heads: int = 4
    layers: int = 6
    feedforward: int = 1024
    dropout: float = 0.0
    scale_rule: ScaleRule = "official"
    token_length: float = 1.0
    locals: int | None = None
    symmetric: bool = False
    skip: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a checkpoint's header."""
        return asdict(self)


@dataclass(frozen=True)
class Tokens:
    """The descriptors of B images, padded.

    Attributes:
        vector: [B, D] global descriptors.
        locals: [B, n, d] local descriptors; what stands in padding has no effect.
        scale: [B, n] int64, rows of the scale table.
        padding: [B, n] bool, True where there is no descriptor.
    """

    vector: torch.Tensor
    locals: torch.Tensor
    scale: torch.Tensor
    padding: torch.Tensor

    def __getitem__(self, rows: torch.Tensor | slice) -> Tokens:
        return Tokens(self.vector[rows], self.locals[rows], self.scale[rows], self.padding[rows])

    def to(self, device: torch.device) -> Tokens:
        """The same on another device."""
        return Tokens(*(value.to(device) for value in (self.vector, self.locals, self.scale, self.padding)))


class RRTNetwork(nn.Module):
    """Compares two images by a transformer over both images' tokens."""

    def __init__(self, shape: RRTShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.d_model
        layer = nn.TransformerEncoderLayer(
            width, shape.heads, shape.feedforward, shape.dropout, activation="relu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, shape.layers, enable_nested_tensor=False)
        self.remap = nn.Linear(shape.d_global, width)
        self.scale_encoder = nn.Embedding(len(SCALES), width)
        self.seg_encoder = nn.Embedding(6, width)
        self.classifier = nn.Linear(width, 1)
        if shape.skip:
            self.skip = nn.Parameter(torch.tensor([_SKIP]))
            nn.init.zeros_(self.classifier.weight)
        nn.init.normal_(self.scale_encoder.weight, std=0.02)
        nn.init.normal_(self.seg_encoder.weight, std=0.02)
        for parameter in self.encoder.parameters():
            if parameter.dim() > 1:  # copies of one layer would all start from the same values
                nn.init.xavier_uniform_(parameter)

    def forward(self, source: Tokens, target: Tokens, remapped: bool = False) -> torch.Tensor:
        """Logits [B], higher for the same thing; not symmetric in its two sides.

        Args:
            source, target: B images each.
            remapped: their global descriptors are [B, d_model] already, because somebody else projected them.
        """
        count = len(source.vector)
        left, right = (self._globals(tokens, remapped) for tokens in (source, target))
        special = self.seg_encoder.weight[2:4].unsqueeze(0).expand(count, -1, -1)
        no_padding = source.padding.new_zeros(count, 1)
        sequence = torch.cat(
            [
                special[:, :1],
                self._side(source, left, 0, 4),
                special[:, 1:],
                self._side(target, right, 1, 5),
            ],
            dim=1,
        )
        padding = torch.cat([no_padding, no_padding, source.padding, no_padding, no_padding, target.padding], dim=1)
        encoded = self.encoder(sequence, src_key_padding_mask=padding)
        logits: torch.Tensor = self.classifier(encoded[:, 0]).squeeze(-1)
        return logits + self.skip * (left * right).sum(dim=-1) if self.shape.skip else logits

    def _globals(self, tokens: Tokens, remapped: bool) -> torch.Tensor:
        return functional.normalize(tokens.vector if remapped else self.remap(tokens.vector), dim=-1)

    def _side(self, tokens: Tokens, projected: torch.Tensor, local_segment: int, global_segment: int) -> torch.Tensor:
        segments, length = self.seg_encoder.weight, self.shape.token_length
        vector = projected * length + segments[global_segment]
        locals_ = functional.normalize(tokens.locals, dim=-1) * length + self.scale_encoder(tokens.scale)
        return torch.cat([vector.unsqueeze(1), locals_ + segments[local_segment]], dim=1)


def shape_of(state: dict[str, torch.Tensor], heads: int = 4) -> RRTShape:
    """The sizes of an official checkpoint, read off its tensors. Raises KeyError when it is no such checkpoint."""
    width, d_global = state["remap.weight"].shape
    layers = {key.split(".")[2] for key in state if key.startswith("encoder.layers.")}
    return RRTShape(
        d_global=d_global,
        d_model=width,
        heads=heads,
        layers=len(layers),
        feedforward=state["encoder.layers.0.linear1.weight"].shape[0],
    )


def scale_index(scale: FloatArray, rule: ScaleRule) -> npt.NDArray[np.int64]:
    """Rows of the scale table for scales [n]; see `RRTShape.scale_rule`. Scales below the table get its first row."""
    wide = np.asarray(scale, dtype=np.float64)
    if rule == "official":
        rows = [max(0, bisect.bisect_right(SCALES, value) - 1) for value in wide.tolist()]
        return np.array(rows, dtype=np.int64)
    distances = np.abs(np.log2(wide[:, None]) - np.log2(np.array(SCALES)))
    return np.asarray(distances.argmin(axis=1), dtype=np.int64)
