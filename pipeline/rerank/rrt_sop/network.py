"""The Reranking Transformer's network for products: two maps of local descriptors in, one logit out.

Used by the reranker `rrt_sop`. Tan, Yuan, Ordonez, "Instance-level Image Retrieval using Reranking Transformers", ICCV
2021, section 4.2, with the parameter names of the official model's `matcher`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pipeline.rerank.image_rows import Batch
from pipeline.rerank.pair_reranker import joint_padding
from pipeline.rerank.transformer import Encoder

# Of the position code: a map's far end lies at _EXTENT, the slowest channels turn _TEMPERATURE times slower than the
# fastest, and _EPSILON keeps a division safe. DETR's code, except that it has 2 pi for the extent.
_EXTENT = 2.0
_TEMPERATURE = 10000.0
_EPSILON = 1e-6


# Logits per unit of cosine that a skip starts with: a pair is then told apart at a cosine of some tenths.
_SKIP = 10.0


@dataclass(frozen=True)
class RRTSOPShape:
    """Sizes of a network; the defaults are the paper's for products.

    Attributes:
        d_model: of every token.
        heads, layers, feedforward: of the transformer.
        dropout: in training.
        d_local: of the maps' cells, which a linear layer `remap_local` brings to d_model; None: they are d_model wide,
            and there is no such layer, as in the official network.
        token_length: length that every cell gets; None: cells are as long as they come, as in the official network.
        symmetric: score a pair by the mean logit of both orders.
        skip: add a trained multiple of the cosine of the two maps' means to the logit, so that the transformer has only
            to learn what that cosine does not say. Not in the paper.
    """

    d_model: int = 128
    heads: int = 4
    layers: int = 6
    feedforward: int = 1024
    dropout: float = 0.0
    d_local: int | None = None
    token_length: float | None = None
    symmetric: bool = False
    skip: bool = False

    @property
    def width_of_locals(self) -> int:
        """Channels of the maps."""
        return self.d_local or self.d_model

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a checkpoint's header."""
        return asdict(self)


class RRTSOPNetwork(nn.Module):
    """Compares two images by a transformer over the cells of both images' maps."""

    def __init__(self, shape: RRTSOPShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape.d_model, shape.heads, shape.feedforward, shape.layers, shape.dropout)
        self.seg_encoder = nn.Embedding(4, shape.d_model)
        self.classifier = nn.Linear(shape.d_model, 1)
        if shape.d_local is not None:
            self.remap_local = nn.Linear(shape.d_local, shape.d_model)
        for parameter in self.parameters():
            if parameter.dim() > 1:  # copies of one layer would all start from the same values
                nn.init.xavier_uniform_(parameter)
        if shape.skip:
            self.skip = nn.Parameter(torch.tensor([_SKIP]))
            nn.init.zeros_(self.classifier.weight)

    def forward(self, source: Batch, target: Batch) -> torch.Tensor:
        """Logits [B], higher for the same thing; of both orders where the network is symmetric, else not symmetric.

        Args:
            source, target: B images each, as `embed` gives them.
        """
        logits = self._one_way(source, target)
        if self.shape.symmetric:
            logits = (logits + self._one_way(target, source)) / 2
        if self.shape.skip:
            return logits + self.skip * functional.cosine_similarity(source.whole, target.whole, dim=-1)
        return logits

    def embed(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of maps [B, d_local, h, w], still without segment.

        Returns:
            [B, h * w, d_model], row by row: descriptors with their positions; and [B, d_model], what belongs to each
            image as a whole (no values where the network does not read it).
        """
        cells = self.project(maps)
        return self.scaled(cells) + self.places(*maps.shape[2:]), self.whole(cells)

    def project(self, maps: torch.Tensor) -> torch.Tensor:
        """[B, h * w, d_model], row by row, of maps [B, d_local, h, w]."""
        cells = maps.flatten(2).transpose(1, 2)
        return cells if self.shape.d_local is None else self.remap_local(cells)

    def scaled(self, cells: torch.Tensor) -> torch.Tensor:
        """Projected cells [..., d_model], as long as tokens are."""
        length = self.shape.token_length
        return cells if length is None else functional.normalize(cells, dim=-1) * length

    def places(self, height: int, width: int) -> torch.Tensor:
        """[height * width, d_model]: the position code of every cell, row by row."""
        return _position_code(height, width, self.shape.d_model).flatten(1).T.to(self.classifier.weight.device)

    def whole(self, cells: torch.Tensor) -> torch.Tensor:
        """[B, d_model] of projected cells [B, n, d_model]: their mean; [B, 0] where the network does not read it."""
        return cells.mean(dim=1) if self.shape.skip else cells.new_zeros(len(cells), 0)

    def _one_way(self, source: Batch, target: Batch) -> torch.Tensor:
        segments = self.seg_encoder.weight
        special = segments[:2].unsqueeze(0).expand(len(source.rows), -1, -1)
        sequence = torch.cat(
            [special[:, :1], source.rows + segments[2], special[:, 1:], target.rows + segments[3]], dim=1
        )
        first = self.encoder(sequence, joint_padding(source, target, before=(1, 1)))
        logits: torch.Tensor = self.classifier(first).squeeze(-1)
        return logits


def position_code(height: int, width: int, channels: int) -> torch.Tensor:
    """[channels, height, width] float32: where a cell is. The first half of the channels tells y, the second x."""
    return _position_code(height, width, channels).clone()


def shape_of(state: dict[str, torch.Tensor], heads: int = 4) -> RRTSOPShape:
    """The sizes of a matcher, read off its tensors. Raises KeyError when it is none."""
    return RRTSOPShape(
        d_model=state["seg_encoder.weight"].shape[1],
        heads=heads,
        layers=len({key.split(".")[2] for key in state if key.startswith("encoder.layers.")}),
        feedforward=state["encoder.layers.0.linear1.weight"].shape[0],
    )


@lru_cache(maxsize=16)
def _position_code(height: int, width: int, channels: int) -> torch.Tensor:
    rows, columns = _waves(height, channels // 2), _waves(width, channels // 2)
    both = [rows[:, :, None].expand(-1, -1, width), columns[:, None].expand(-1, height, -1)]
    return torch.cat(both)


def _waves(length: int, channels: int) -> torch.Tensor:
    """[channels, length]: sines in even channels and cosines in odd ones, of places 1 to `length`."""
    places = torch.arange(1, length + 1, dtype=torch.float32) / (length + _EPSILON) * _EXTENT
    slowness = _TEMPERATURE ** (2 * (torch.arange(channels, dtype=torch.float32) // 2) / channels)
    angles = places / slowness[:, None]
    even = (torch.arange(channels) % 2 == 0)[:, None]
    return torch.where(even, angles.sin(), angles.cos())
