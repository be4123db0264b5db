"""Which local descriptors of a pair speak for the same thing: gradient times input of a transformer's logit.

Called by `PairReranker.explain`. The effects of all descriptors of both images say how the logit changes when each is
made a little stronger (Shrikumar et al., 2016); the images as a whole have their own share, which is not shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from pipeline.errors import RelookError
from pipeline.rerank.image_rows import Batch, Ragged
from pipeline.types import Attended, Description, DescriptorSource, FloatArray


class ComparesPairs(Protocol):
    """The part of `PairReranker` that is called here."""

    def read(self, images: Sequence[Description], gallery: bool) -> Ragged:
        """See `PairReranker.read`."""

    def compare(self, queries: Batch, gallery: Batch) -> torch.Tensor:
        """See `PairReranker.compare`."""

    def places(self, image: Description, read: Ragged) -> FloatArray:
        """See `PairReranker.places`."""


def attended(
    reranker: ComparesPairs, query: Description, ids: Sequence[str], gallery: DescriptorSource
) -> list[Attended]:
    """The effects of the descriptors of `query` and of each image, in the order of `ids`.

    Raises:
        RelookError: the index keeps no places of local descriptors.
    """
    source = reranker.read([query], gallery=False)
    found = []
    for name in ids:
        image = Description(gallery.globals([name])[0], gallery.locals([name])[0])
        target = reranker.read([image], gallery=True)
        effects = _effects(reranker, source, target)
        query_xy, image_xy = reranker.places(query, source), reranker.places(image, target)
        found.append(Attended(query_xy, image_xy, *effects))
    return found


def first_places(image: Description, count: int, name: str) -> FloatArray:
    """Where the first `count` local descriptors lie [count, 2]. Raises RelookError where that is not known."""
    places = image.locals.xy[:count] if image.locals is not None else None
    if places is None or len(places) != count:
        raise RelookError(
            f"{name}: the index keeps no places of local descriptors, which an explanation needs; extract with "
            "--set describe.locals.geometry=true"
        )
    return places


def _effects(reranker: ComparesPairs, source: Ragged, target: Ragged) -> tuple[FloatArray, FloatArray]:
    """Gradient times input, summed over each row."""
    one = torch.zeros(1, dtype=torch.int64)
    batches = [part.batch(one) for part in (source, target)]
    with torch.enable_grad():
        rows = [batch.rows.clone().requires_grad_() for batch in batches]
        whole = [batch.whole.clone() for batch in batches]
        sides = [Batch(values, batch.padding, own) for batch, values, own in zip(batches, rows, whole, strict=True)]
        logit = reranker.compare(*sides).float().sum()
        gradients = torch.autograd.grad(logit, rows)
    effects = [(values.detach() * gradient).sum(-1)[0] for values, gradient in zip(rows, gradients, strict=True)]
    return effects[0].float().cpu().numpy(), effects[1].float().cpu().numpy()
