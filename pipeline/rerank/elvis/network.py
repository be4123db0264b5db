"""ELViS' network: the local descriptors of two images in, the sum of their votes out.

Used by the reranker `elvis`. Suma, Kordopatis-Zilos, Kalantidis, Tolias, "ELViS: Efficient Visual Similarity from Local
Descriptors that Generalizes Across Domains", ICLR 2026, with the parameter names of the official checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from pipeline.rerank.elvis.strongest import strongest
from pipeline.rerank.elvis.transport import Tokens, transport
from pipeline.rerank.image_rows import Batch
from pipeline.rerank.parallel_batches import ThreadMemory

_MEMORY = ThreadMemory()
# Length of a projected descriptor, at least, by which it is divided: that of `functional.normalize`.
_LEAST = 1e-12


@dataclass(frozen=True)
class ELViSShape:
    """Sizes of a network and what its tensors do not say; the defaults are the authors' for DINOv2.

    Attributes:
        local_dim: of the local descriptors as a backbone gives them.
        model_dim: of the projected ones.
        embed_dim: hidden values of the perceptron that turns a match into a vote.
        proj_dim: hidden values of the one that turns the sum into a logit, in training alone.
        iterations: of Sinkhorn's algorithm.
        sharpness: factor on cosines and bins, the inverse of the transport's temperature.
        counts_padding: images with fewer descriptors than are compared are padded, and the padding has its share of the
            masses, as in the official code; otherwise only real descriptors have.
    """

    local_dim: int = 768
    model_dim: int = 128
    embed_dim: int = 16
    proj_dim: int = 64
    iterations: int = 10
    sharpness: float = 10.0
    counts_padding: bool = True

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a checkpoint's header."""
        return asdict(self)


class ELViSNetwork(nn.Module):
    """Compares two images by an optimal transport between their local descriptors.

    Each descriptor has one vote: how much of it goes to the one descriptor of the other image that takes most of it,
    through a perceptron of one input. The score is the sum of all votes. The first half, `begin`, sees one image alone.
    """

    def __init__(self, shape: ELViSShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.model_dim
        self.remap_local = nn.Sequential(nn.Linear(shape.local_dim, width), nn.LayerNorm(width))
        self.f = nn.Sequential(
            nn.Linear(1, shape.embed_dim),
            nn.LayerNorm(shape.embed_dim, eps=1e-6),
            nn.GELU(),
            nn.Linear(shape.embed_dim, 1),
        )
        self.g = nn.Sequential(nn.Linear(1, shape.proj_dim), nn.GELU(), nn.Linear(shape.proj_dim, 1))
        self.dust_bin = nn.Parameter(torch.tensor(1.0))
        self.dust_bin_mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1), nn.Tanh())

    def forward(self, query: Batch, gallery: Batch) -> torch.Tensor:
        """Scores [B] of images after `begin`, each between 0 and the number of both images' descriptors."""
        return sum(votes.sum(dim=1) for votes in self.votes(query, gallery))  # type: ignore[return-value]

    def logits(self, scores: torch.Tensor) -> torch.Tensor:
        """Logits [B] of scores [B], for training."""
        logits: torch.Tensor = self.g(scores.unsqueeze(1)).squeeze(1)
        return logits

    def begin(self, descriptors: torch.Tensor) -> torch.Tensor:
        """[..., model_dim + 1] of descriptors [..., local_dim]: projected to unit length, and the score with the bin.

        The official extraction stores descriptors of unit length; they are taken as they are.
        """
        units = functional.normalize(self.remap_local(descriptors).float(), dim=-1)
        return torch.cat([units, self.dust_bin_mlp(units).float()], dim=-1)

    def begin_into(self, rows: torch.Tensor, descriptors: torch.Tensor) -> None:
        """`begin` of descriptors [n, local_dim] into rows [n, model_dim + 1]; without gradients.

        On a CPU nothing is written between the layers but what stays in the cache: half of a step's time is otherwise
        that of new memory.
        """
        if rows.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            rows[:] = self.begin(descriptors)
            return
        layers = cast(Sequence[nn.Linear], (self.remap_local[0], self.dust_bin_mlp[0], self.dust_bin_mlp[2]))
        hidden = _MEMORY.of((len(rows), self.shape.model_dim), rows)
        projected = self.remap_local[1](_linear(layers[0], descriptors, hidden))
        lengths = torch.linalg.vector_norm(projected, dim=1, keepdim=True).clamp_min_(_LEAST)
        units = torch.div(projected, lengths, out=rows[:, :-1])
        torch.ops.aten.gelu.out(_linear(layers[1], units, hidden), out=hidden)
        _linear(layers[2], hidden, rows[:, -1:]).tanh_()

    def padding(self, count: torch.Tensor, bins: torch.Tensor | None = None) -> torch.Tensor:
        """What a `Batch` keeps of each image as a whole [B, 2]: number of padding tokens, and their bins together.

        Args:
            count: [B] float, tokens of padding.
            bins: [B, n] scores of the padding with the bin, minus infinity for all other tokens; None: padding are
                descriptors of zeros.
        """
        if bins is None:
            zeros = torch.zeros(1, self.shape.local_dim, device=count.device)
            together = self.shape.sharpness * self.begin(zeros)[0, -1] + count.log()
        else:
            together = (self.shape.sharpness * bins).logsumexp(dim=1)
        return torch.stack([count, together], dim=1)

    def plan(self, query: Batch, gallery: Batch) -> torch.Tensor:
        """The transport [B, m, n] of images after `begin`, times m + n; 0 where there is no descriptor; see `votes`."""
        shape = self.shape
        return transport(_tokens(query), _tokens(gallery), self.dust_bin, shape.sharpness, shape.iterations)

    def votes(self, query: Batch, gallery: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Votes [B, m] and [B, n] in [0, 1] of either image's descriptors, 0 where there is none.

        Args:
            query, gallery: `rows` are those of `begin`, `whole` is that of `padding`.
        """
        shape = self.shape
        matches = strongest(_tokens(query), _tokens(gallery), self.dust_bin, shape.sharpness, shape.iterations)
        votes = self.f(torch.cat(matches, dim=1).unsqueeze(2)).squeeze(2).float().sigmoid()
        of_query, of_gallery = votes.split([match.shape[1] for match in matches], dim=1)
        return _without(of_query, query.padding), _without(of_gallery, gallery.padding)


def shape_of(state: Mapping[str, torch.Tensor]) -> ELViSShape:
    """The sizes of an official checkpoint, read off its tensors. Raises KeyError when it is no such checkpoint."""
    model_dim, local_dim = state["remap_local.0.weight"].shape
    return ELViSShape(local_dim, model_dim, state["f.0.weight"].shape[0], state["g.0.weight"].shape[0])


def _linear(layer: nn.Linear, rows: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    return torch.addmm(layer.bias, rows, layer.weight.T, out=out)


def _tokens(side: Batch) -> Tokens:
    return Tokens(side.rows[..., :-1], side.rows[..., -1], side.padding, side.whole[:, 0], side.whole[:, 1])


def _without(votes: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor:
    return votes if padding is None else votes.masked_fill(padding, 0)
