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

from pipeline.rerank.pairs import Batch, joint_padding
from pipeline.rerank.transformer import Encoder

# Of the position code: a map's far end lies at _EXTENT, the slowest channels turn _TEMPERATURE times slower than the
# fastest, and _EPSILON keeps a division safe. DETR's code, except that it has 2 pi for the extent.
_EXTENT = 2.0
_TEMPERATURE = 10000.0
_EPSILON = 1e-6


@dataclass(frozen=True)
class RRTSOPShape:
    """Sizes of a network; the defaults are the paper's for products.

    Attributes:
        d_model: of the local descriptors and of every token.
        heads, layers, feedforward: of the transformer.
    """

    d_model: int = 128
    heads: int = 4
    layers: int = 6
    feedforward: int = 1024

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a checkpoint's header."""
        return asdict(self)


class RRTSOPNetwork(nn.Module):
    """Compares two images by a transformer over the cells of both images' maps."""

    def __init__(self, shape: RRTSOPShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape.d_model, shape.heads, shape.feedforward, shape.layers)
        self.seg_encoder = nn.Embedding(4, shape.d_model)
        self.classifier = nn.Linear(shape.d_model, 1)

    def forward(self, source: Batch, target: Batch) -> torch.Tensor:
        """Logits [B], higher for the same thing; `rows` are those of `embed`. Not symmetric in its two sides."""
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


def embed(maps: torch.Tensor) -> torch.Tensor:
    """[B, h * w, d], row by row, of maps [B, d, h, w]: descriptors with their positions, still without segment."""
    code = _position_code(maps.shape[2], maps.shape[3], maps.shape[1]).to(maps.device)
    return (maps + code).flatten(2).transpose(1, 2)


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
