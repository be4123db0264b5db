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

from pipeline.rerank.image_rows import Batch
from pipeline.rerank.pair_reranker import joint_padding
from pipeline.rerank.transformer import Encoder
from pipeline.types import FloatArray

# DELG's seven scales, as float32 wrote them. Only the official code's comparison in float64 needs these digits.
SCALES = (0.5, 0.70710677, 1.0, 1.41421354, 2.0, 2.82842708, 4.0)

# How many local descriptors of an image the official data set reads.
OFFICIAL_LOCALS = 500

# Logits per unit of cosine that a skip starts with: a pair is then told apart at a cosine of some tenths.
_SKIP = 10.0

ScaleRule = Literal["nearest", "official"]


@dataclass(frozen=True)
class RRTShape:
    """Sizes of a network; the defaults are the paper's for landmarks.

    Attributes:
        d_global: of the global descriptors.
        d_model: of every token.
        d_local: of the local descriptors; None: d_model, as in the official networks. Another size is projected by a
            linear layer `remap_local` that is trained with the rest.
        heads, layers, feedforward: of the transformer.
        dropout: in training.
        scale_rule: "official" gives a scale the index of the largest table entry that is not above it, compared in
            float64 as the official code does, so that 0.7071 falls under 0.5; "nearest" takes the nearest entry.
        token_length: length that descriptors have as tokens; the official networks leave them at 1.
        locals: how many local descriptors an image gives, its strongest; None: all that there are.
        normalize: give descriptors unit length (the globals after their projection), as the official networks do.
        symmetric: score a pair by the mean logit of both orders.
        skip: add a trained multiple of the cosine of the two projected global descriptors to the logit, so that the
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
    normalize: bool = True
    d_local: int | None = None
    symmetric: bool = False
    skip: bool = False

    @property
    def width_of_locals(self) -> int:
        """Values of a local descriptor."""
        return self.d_local or self.d_model

    @property
    def projects(self) -> bool:
        """Whether local descriptors have to be projected to d_model."""
        return self.width_of_locals != self.d_model

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
        self.encoder = Encoder(width, shape.heads, shape.feedforward, shape.layers, shape.dropout)
        self.remap = nn.Linear(shape.d_global, width)
        self.scale_encoder = nn.Embedding(len(SCALES), width)
        self.seg_encoder = nn.Embedding(6, width)
        self.classifier = nn.Linear(width, 1)
        if shape.projects:
            self.remap_local = nn.Linear(shape.width_of_locals, width)
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
        left, right = (
            Batch(self.embed_locals(side.locals, side.scale), side.padding, self.embed_globals(side.vector, remapped))
            for side in (source, target)
        )
        return self.compare(left, right)

    def embed_globals(self, vectors: torch.Tensor, remapped: bool = False) -> torch.Tensor:
        """[N, d_model] tokens of N images' global descriptors [N, d_global], still without their segment."""
        return self._scaled(vectors if remapped else self.remap(vectors))

    def embed_locals(self, descriptors: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """[..., d_model] tokens of local descriptors [..., d_local], still without segment; `scale` [...] are rows."""
        projected = self.remap_local(descriptors) if self.shape.projects else descriptors
        tokens: torch.Tensor = self._scaled(projected) + self.scale_encoder(scale)
        return tokens

    def compare(self, source: Batch, target: Batch) -> torch.Tensor:
        """Logits [B] of embedded images: `rows` are tokens of locals, `whole` those of globals."""
        segments = self.seg_encoder.weight
        special = segments[2:4].unsqueeze(0).expand(len(source.rows), -1, -1)
        sequence = torch.cat(
            [
                special[:, :1],
                (source.whole + segments[4]).unsqueeze(1),
                source.rows + segments[0],
                special[:, 1:],
                (target.whole + segments[5]).unsqueeze(1),
                target.rows + segments[1],
            ],
            dim=1,
        )
        first = self.encoder(sequence, joint_padding(source, target, before=(2, 2)))
        logits: torch.Tensor = self.classifier(first).squeeze(-1)
        if self.shape.skip:
            cosine = (source.whole * target.whole).sum(dim=-1) / self.shape.token_length**2
            return logits + self.skip * cosine
        return logits

    def _scaled(self, descriptors: torch.Tensor) -> torch.Tensor:
        unit = functional.normalize(descriptors, dim=-1) if self.shape.normalize else descriptors
        return unit * self.shape.token_length


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
        locals=OFFICIAL_LOCALS,
        d_local=state["remap_local.weight"].shape[1] if "remap_local.weight" in state else None,
    )


def scale_index(scale: FloatArray, rule: ScaleRule) -> npt.NDArray[np.int64]:
    """Rows of the scale table for scales [n]; see `RRTShape.scale_rule`. Scales below the table get its first row."""
    wide = np.asarray(scale, dtype=np.float64)
    if rule == "official":
        rows = [max(0, bisect.bisect_right(SCALES, value) - 1) for value in wide.tolist()]
        return np.array(rows, dtype=np.int64)
    distances = np.abs(np.log2(wide[:, None]) - np.log2(np.array(SCALES)))
    return np.asarray(distances.argmin(axis=1), dtype=np.int64)
