"""AMES' network: the local descriptors of two images in, one logit out.

Used by the reranker `ames`. Suma, Kordopatis-Zilos, Iscen, Tolias, "AMES: Asymmetric and Memory-Efficient Similarity
Estimation for Instance-level Retrieval", ECCV 2024, section 3, with the parameter names of the official checkpoints.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pipeline.rerank.image_rows import Batch
from pipeline.rerank.pair_reranker import joint_padding
from pipeline.rerank.transformer import additive_mask, attend, project

# In place of minus infinity where infinities would be subtracted from each other.
_LOWEST = -1e30


@dataclass(frozen=True)
class AMESShape:
    """Sizes of a network; the defaults are the paper's for DINOv2.

    Attributes:
        local_dim: of the local descriptors as a backbone gives them.
        model_dim: of the projected ones and of every token.
        heads, layers, feedforward: of the transformer.
        binarised: the projection keeps only signs ("dist" in the official code's names).
        round_gallery: projected descriptors of gallery images pass through float16, in which the authors store them;
            those of queries never do, so that the two sides of a pair are not treated alike. Not for a binarised one.
    """

    local_dim: int = 768
    model_dim: int = 128
    heads: int = 2
    layers: int = 5
    feedforward: int = 1024
    binarised: bool = False
    round_gallery: bool = True

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a checkpoint's header."""
        return asdict(self)


class Binarised(nn.Module):
    """The signs of descriptors turned by `W`: +1, -1, or 0 for a descriptor that is zero."""

    def __init__(self, local_dim: int, model_dim: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(local_dim, model_dim) / local_dim**0.5)

    def forward(self, descriptors: torch.Tensor) -> torch.Tensor:
        """[..., model_dim] of descriptors [..., local_dim]."""
        # In float32 whatever the precision: near 0 a rounded product changes its sign, and with it a whole bit.
        with torch.autocast(descriptors.device.type, enabled=False):
            return (functional.normalize(descriptors.float(), dim=-1) @ self.W).sign()


class AMESLayer(nn.Module):
    """Attention within each image, attention across the two, and a feed-forward block.

    Sequences are [query, token, gallery]: the matching token sees both images and is seen by both, so it stands where
    either image's keys, with it, are neighbours.
    """

    def __init__(self, shape: AMESShape) -> None:
        super().__init__()
        width = shape.model_dim
        self.self_attn = nn.MultiheadAttention(width, shape.heads, batch_first=True)
        self.cross_attn = nn.MultiheadAttention(width, shape.heads, batch_first=True)
        self.linear1 = nn.Linear(width, shape.feedforward)
        self.linear2 = nn.Linear(shape.feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def within(self, tokens: torch.Tensor, place: int, mask: torch.Tensor | None) -> torch.Tensor:
        """Each image attends to itself and the token, which stands at `place` of tokens [B, n, d] and sees them all."""
        query, key, value = project(self.self_attn, tokens)
        mixed = _by_image(query, key, value, place, mask, crossed=False)
        result: torch.Tensor = self.norm1(tokens + self.self_attn.out_proj(mixed))
        return result

    def across(self, tokens: torch.Tensor, place: int, mask: torch.Tensor | None, token_only: bool) -> torch.Tensor:
        """Each image attends to the other and the token; then the feed-forward block.

        Returns tokens [B, n, d], or that at `place` alone, [B, 1, d].
        """
        key, value = project(self.cross_attn, tokens, "kv")
        kept = tokens[:, place : place + 1] if token_only else tokens
        (query,) = project(self.cross_attn, kept, "q")
        if token_only:
            mixed = attend(query, key, value, mask)
        else:
            mixed = _by_image(query, key, value, place, mask, crossed=True)
        kept = self.norm2(kept + self.cross_attn.out_proj(mixed))
        hidden = functional.relu(self.linear1(kept), inplace=True)
        result: torch.Tensor = self.norm3(kept + self.linear2(hidden))
        return result


class AMESNetwork(nn.Module):
    """Compares two images by a transformer over both images' local descriptors and one matching token.

    What the first layer does within an image does not depend on the other one: `begin` does it once per image, and
    `token` starts from there. The token's own first attention, over both images, is put together from two halves.
    """

    def __init__(self, shape: AMESShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.model_dim
        norm = nn.LayerNorm(width)
        if shape.binarised:
            self.remap_local = nn.Sequential(Binarised(shape.local_dim, width), nn.Linear(width, width), norm)
        else:
            self.remap_local = nn.Sequential(nn.Linear(shape.local_dim, width), norm)
        self.mtc_token = nn.Parameter(torch.randn(width))
        self.decoder = _Decoder(shape)
        self.classifier = nn.Linear(width, 1)

    def forward(self, query: Batch, gallery: Batch) -> torch.Tensor:
        """Logits [B] of images after `begin`, higher for the same thing."""
        logits: torch.Tensor = self.classifier(self.token(query, gallery)).squeeze(-1)
        return logits

    def bits(self, descriptors: torch.Tensor) -> torch.Tensor:
        """[..., model_dim] signs of descriptors [..., local_dim], of a binarised network: what an index can store."""
        signs: torch.Tensor = self.remap_local[0](descriptors)
        return signs

    def project(self, descriptors: torch.Tensor, gallery: bool, ready: bool = False) -> torch.Tensor:
        """[..., model_dim] tokens of local descriptors.

        Args:
            descriptors: [..., local_dim]; or what was computed of them when they were described, [..., model_dim].
            gallery: whether they belong to gallery images; see `AMESShape.round_gallery`.
            ready: they are projected already, or for a binarised network they are bits.
        """
        tokens = descriptors if ready else functional.normalize(descriptors, dim=-1)
        if self.shape.binarised:
            start = 1 if ready else 0
            tokens = self.remap_local[start:](tokens.sign() if ready else tokens)
        elif not ready:
            tokens = self.remap_local(tokens)
        if gallery and self.shape.round_gallery and not self.shape.binarised:
            return tokens.half().to(tokens.dtype)
        return tokens

    def begin(self, rows: torch.Tensor, padding: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """What can be computed of images alone.

        Args:
            rows: [B, n, d] projected descriptors.
            padding: [B, n] bool, True where there is none; None: nowhere.

        Returns:
            [B, n, d], each image after the first attention within it; and [B, heads, 1 + d / heads], of the token's
            attention to it the logarithm of the summed weights, and the mean of the values.
        """
        layer = self.decoder.layer(0)
        token = self.mtc_token.expand(len(rows), 1, -1)
        hidden = None if padding is None else torch.cat([padding.new_zeros(len(rows), 1), padding], dim=1)
        query, key, value = project(layer.self_attn, torch.cat([token, rows], dim=1))
        mask = None if hidden is None else additive_mask(hidden)
        mixed = attend(query[:, :, 1:], key, value, mask)
        begun = layer.norm1(rows + layer.self_attn.out_proj(mixed))
        scores = _scores(query[:, :, :1], key[:, :, 1:])
        scores = scores if mask is None else scores + mask[..., 1:]
        total = scores.logsumexp(dim=-1, keepdim=True)
        # An image without descriptors has a total of minus infinity and must not become NaN.
        mean = (scores - total.clamp(min=_LOWEST)).exp() @ value[:, :, 1:].float()
        return begun, torch.cat([total, mean], dim=-1).squeeze(2)

    def token(self, query: Batch, gallery: Batch) -> torch.Tensor:
        """The matching token [B, d] after the last layer; both images' `rows` and `whole` are those of `begin`."""
        return self.tokens(query, gallery, token_only=True)[:, 0]

    def tokens(self, query: Batch, gallery: Batch, token_only: bool = False) -> torch.Tensor:
        """All tokens [B, q + 1 + g, d] after the last layer, of query, match and gallery, or [B, 1, d] of the match."""
        place = query.rows.shape[1]
        tokens = torch.cat([query.rows, self._begun_token(query.whole, gallery.whole), gallery.rows], dim=1)
        padding = joint_padding(query, gallery, before=(0, 1))
        mask = None if padding is None else additive_mask(padding)
        last = self.shape.layers - 1
        for number in range(self.shape.layers):
            layer = self.decoder.layer(number)
            if number:
                tokens = layer.within(tokens, place, mask)
            tokens = layer.across(tokens, place, mask, token_only and number == last)
        return tokens

    def _begun_token(self, query: torch.Tensor, gallery: torch.Tensor) -> torch.Tensor:
        """The token [B, 1, d] after the first layer's attention, from its attention to either image and to itself."""
        layer = self.decoder.layer(0)
        token = self.mtc_token.expand(len(query), 1, -1)
        own_query, own_key, own_value = project(layer.self_attn, token)
        own = torch.cat([_scores(own_query, own_key), own_value.float()], dim=-1).squeeze(2)
        parts = torch.stack([query, own, gallery], dim=2)
        mixed = (parts[..., :1].softmax(dim=2) * parts[..., 1:]).sum(dim=2).flatten(1).unsqueeze(1)
        result: torch.Tensor = layer.norm1(token + layer.self_attn.out_proj(mixed))
        return result


class _Decoder(nn.Module):
    """Holds the layers under their official names."""

    def __init__(self, shape: AMESShape) -> None:
        super().__init__()
        self.layers = nn.ModuleList(AMESLayer(shape) for _ in range(shape.layers))

    def layer(self, number: int) -> AMESLayer:
        layer = self.layers[number]
        assert isinstance(layer, AMESLayer)
        return layer


def shape_of(state: dict[str, torch.Tensor], heads: int = 2) -> AMESShape:
    """The sizes of an official checkpoint, read off its tensors. Raises KeyError when it is no such checkpoint."""
    binarised = "remap_local.0.W" in state
    local_dim = state["remap_local.0.W"].shape[0] if binarised else state["remap_local.0.weight"].shape[1]
    return AMESShape(
        local_dim=local_dim,
        model_dim=state["mtc_token"].shape[0],
        heads=heads,
        layers=len({key.split(".")[2] for key in state if key.startswith("decoder.layers.")}),
        feedforward=state["decoder.layers.0.linear1.weight"].shape[0],
        binarised=binarised,
        round_gallery=not binarised,
    )


def _by_image(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    place: int,
    mask: torch.Tensor | None,
    crossed: bool,
) -> torch.Tensor:
    """Attention of each image to the token and itself, or `crossed` to the token and the other; of the token to all."""
    sides = slice(None, place + 1), slice(place, None)
    seen_by_query, seen_by_gallery = reversed(sides) if crossed else sides

    def part(rows: slice, seen: slice) -> torch.Tensor:
        hidden = None if mask is None else mask[..., seen]
        return attend(query[:, :, rows], key[:, :, seen], value[:, :, seen], hidden)

    return torch.cat(
        [
            part(slice(None, place), seen_by_query),
            part(slice(place, place + 1), slice(None)),
            part(slice(place + 1, None), seen_by_gallery),
        ],
        dim=1,
    )


def _scores(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Scaled products [B, heads, n, m], in float32."""
    scale: float = query.shape[-1] ** -0.5
    return torch.matmul(query, key.transpose(2, 3)).float() * scale
