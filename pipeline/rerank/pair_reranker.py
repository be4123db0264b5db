"""Rerankers that compare images two by two: reads each image once, and compares pairs of like sizes together.

What `rrt`, `rrt_sop` and `ames` have in common; each brings its own way to read images and to compare them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

import numpy as np
import torch
from torch import nn

from pipeline.errors import RelookError
from pipeline.rerank.checkpoints import RerankCheckpoint
from pipeline.rerank.image_rows import Batch, Ragged
from pipeline.rerank.pair_explanation import attended, first_places
from pipeline.rerank.parallel_batches import map_in_parallel
from pipeline.rerank.transformer import check_precision, inference
from pipeline.types import Attended, Candidates, Description, DescriptorSource, FloatArray, LocalDescriptors, ModelCard

# Images that are read and prepared at once.
_CHUNK = 64
# Candidates that are held at once, unless one query alone has more; one of several queries is read once.
_HELD = 2048
_GEOMETRY = (
    "places and scales of local descriptors, which the index does without; extract with "
    "--set describe.locals.geometry=true"
)

Network = TypeVar("Network", bound=nn.Module)


class PairReranker(ABC, Generic[Network]):
    """Scores candidates by the probability that they show the same thing, in [0, 1].

    Args:
        network: what compares; put into evaluation mode.
        card: the model whose descriptors it was trained on; None where the checkpoint does not say.
        weight: of the global similarity in the fused score, as tuned; None: not tuned.
        temperature: factor on the logit before it becomes a probability.
        batch_size: pairs per forward pass, at most.
        device: where it runs.
        precision: of matrix products, "float32", or on CUDA "bfloat16" or "float16".

    Raises:
        UsageError: the precision is unknown, or not for this device.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    # Tokens per forward pass on a CPU: what the layers write in between then stays in its caches.
    cpu_tokens: ClassVar[int] = 2048

    def __init__(
        self,
        network: Network,
        card: ModelCard | None = None,
        weight: float | None = None,
        temperature: float = 1.0,
        batch_size: int = 128,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        self.network = network.to(device).eval()
        self.card = card
        self.weight = weight
        self.temperature = temperature
        self._batch_size = batch_size
        self._device = torch.device(device)
        self._precision = check_precision(self.name, precision, device)

    def to_checkpoint(self) -> RerankCheckpoint:
        """What `load` of the same reranker needs to make it again."""
        state = dict(self.network.state_dict())
        shape = cast(Any, self.network).shape.to_json()
        return RerankCheckpoint(self.name, state, shape, self.card, self.weight, self.temperature)

    @abstractmethod
    def check(self, card: ModelCard) -> None:
        """See `Reranker.check`."""

    def bind(self, card: ModelCard) -> Self:
        """See `Reranker.bind`."""
        self.check(card)
        return self

    @abstractmethod
    def read(self, images: Sequence[Description], gallery: bool) -> Ragged:
        """What can be computed of each image alone; `gallery` says which side of a pair they will be."""

    def read_all(self, chunks: Iterable[Sequence[Description]], count: int, gallery: bool) -> Ragged:
        """`read` of `count` images, at least one, that come in chunks."""
        return Ragged.joined([self.read(images, gallery) for images in chunks])

    @abstractmethod
    def compare(self, queries: Batch, gallery: Batch) -> torch.Tensor:
        """Logits [B] of query against gallery images, row by row."""

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        """See `Reranker.score`; probabilities in [0, 1]. Raises RelookError when an image was given no locals."""
        if len(queries) != len(candidates.ids):
            raise RelookError(f"{len(queries)} queries for {len(candidates.ids)} lists of candidates")
        scores: list[FloatArray] = []
        for block in _blocks(candidates.ids):
            scores += self._score_block(queries[block], candidates.ids[block], gallery)
        return scores

    def explain(
        self, query: Description, candidates: Candidates, ids: Sequence[str], gallery: DescriptorSource
    ) -> list[Attended]:
        """See `ExplainingReranker.explain`; pairs are compared on their own, whatever the other candidates."""
        return attended(self, query, ids, gallery)

    def places(self, image: Description, read: Ragged) -> FloatArray:
        """Where the rows of one image that was `read` lie [n, 2], in pixels of the upright original."""
        return first_places(image, int(read.lengths[0]), self.name)

    def pairs(self, sources: Ragged, targets: Ragged, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Raw logits [P] float32 on the CPU of the pairs sources[left], targets[right], both [P] int64."""
        if not len(left):
            return torch.zeros(0)
        lengths = sources.lengths[left], targets.lengths[right]
        # Pairs of like sizes together, and of these neighbours, whose rows then need no copy.
        order = torch.from_numpy(np.lexsort(tuple(key.numpy() for key in (right, left, *reversed(lengths)))))
        size = self._batch_size
        if self._device.type == "cpu":
            size = max(1, min(size, self.cpu_tokens // max(1, int((lengths[0] + lengths[1]).max()))))

        def compare(rows: torch.Tensor) -> torch.Tensor:
            with inference(self._device, self._precision):
                return self.compare(sources.batch(left[rows]), targets.batch(right[rows])).float()

        logits = torch.empty(len(left))
        logits[order] = torch.cat(list(map_in_parallel(compare, torch.split(order, size), self._device))).cpu()
        return logits

    def refuse_other_card(self, card: ModelCard) -> None:
        """Raises RelookError when it was trained on other descriptors than those of `card`."""
        if self.card is not None:
            refuse_other_model(self.name, self.source_of(self.card), self.source_of(card))

    def source_of(self, card: ModelCard) -> ModelCard:
        """What of a card must be that of the descriptors which it was trained on: all of it."""
        return card

    def _score_block(
        self, queries: Sequence[Description], ids: Sequence[Sequence[str]], gallery: DescriptorSource
    ) -> list[FloatArray]:
        names = sorted({name for row in ids for name in row})
        if not names:
            return [np.zeros(0, np.float32) for _ in ids]
        place = {name: row for row, name in enumerate(names)}
        left = torch.tensor([query for query, row in enumerate(ids) for _ in row])
        right = torch.tensor([place[name] for row in ids for name in row])
        with inference(self._device, self._precision):
            own = (queries[rows] for rows in _chunks(len(queries)))
            sources = self.read_all(own, len(queries), gallery=False)
            others = (self._described(names[rows], gallery) for rows in _chunks(len(names)))
            targets = self.read_all(others, len(names), gallery=True)
        probabilities = (self.temperature * self.pairs(sources, targets, left, right)).sigmoid().numpy()
        return np.split(probabilities, np.cumsum([len(row) for row in ids])[:-1])

    def _described(self, names: Sequence[str], gallery: DescriptorSource) -> list[Description]:
        vectors = gallery.globals(names) if "globals" in self.needs else np.zeros((len(names), 0), np.float32)
        return [Description(v, part) for v, part in zip(vectors, gallery.locals(names), strict=True)]


def joint_padding(left: Batch, right: Batch, before: tuple[int, int]) -> torch.Tensor | None:
    """Padding [B, n] of a sequence of both images' rows with so many special tokens `before` either; None: none."""
    if left.padding is None and right.padding is None:
        return None
    parts = []
    for side, special in zip((left, right), before, strict=True):
        shape = side.rows.shape[:2]
        own = torch.zeros(shape, dtype=torch.bool, device=side.rows.device) if side.padding is None else side.padding
        parts += [own.new_zeros(len(own), special), own]
    return torch.cat(parts, dim=1)


def first_locals(
    description: Description, count: int | None, name: str, width: int | None, geometry: bool
) -> LocalDescriptors:
    """The strongest `count` local descriptors of an image for the reranker `name`; None: all of them.

    Raises:
        RelookError: it was described without any, with others than of `width` values (None: any), or without the places
            and scales that `geometry` requires.
    """
    part = description.locals
    if part is None:
        raise RelookError(f"{name} needs local descriptors; extract with --set describe.locals.count=50")
    if width is not None and part.descriptors.shape[1] != width:
        raise RelookError(f"this {name} takes local descriptors of {width} values, not of {part.descriptors.shape[1]}")
    if geometry and not len(part.descriptors) == len(part.xy) == len(part.scale):
        raise RelookError(f"{name} needs {_GEOMETRY}")
    return part.first(count)


def refuse_without_locals(card: ModelCard, name: str, geometry: bool) -> None:
    """Raises RelookError when an index of this card does not hold what `first_locals` needs."""
    if not card.local_dimension:
        raise RelookError(f"{name} needs local descriptors; extract with --set describe.locals.count=50")
    if geometry and not card.locals.geometry:
        raise RelookError(f"{name} needs {_GEOMETRY}")


def refuse_other_model(name: str, own: ModelCard, other: ModelCard) -> None:
    """Raises RelookError where the reranker `name` was trained on descriptors of `own` and these are of `other`."""
    if own.fingerprint != other.fingerprint:
        differences = "; ".join(own.differences(other)[:3])
        raise RelookError(f"this {name} was trained on another model's descriptors ({differences})")


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, count, _CHUNK))


def _blocks(ids: Sequence[Sequence[str]]) -> Iterator[slice]:
    """Neighbouring queries whose candidates can be held together."""
    start, held = 0, 0
    for row, names in enumerate(ids):
        if row > start and held + len(names) > _HELD:
            yield slice(start, row)
            start, held = row, 0
        held += len(names)
    if start < len(ids):
        yield slice(start, len(ids))
