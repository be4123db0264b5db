"""What the classics share: rerankers of global descriptors that score the candidates of a query together.

Below the files of the methods. A neighbourhood reranker also has the neighbours of the first candidates join the list.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch

from pipeline.errors import UsageError
from pipeline.rerank.candidate_vectors import score_blocks
from pipeline.types import (
    Candidates,
    Description,
    DescriptorSource,
    FloatArray,
    FurtherSearch,
    ModelCard,
    Neighbours,
)


class ListReranker(ABC):
    """A reranker without weights that reads global descriptors.

    Args:
        device: where products are computed.
    """

    needs = frozenset({"globals"})
    scores_lists = True  # a score depends on which other candidates there are

    def __init__(self, device: str = "cpu") -> None:
        self._device = torch.device(device)

    def check(self, card: ModelCard) -> None:  # noqa: B027 (there is nothing that it could refuse)
        """See `Reranker.check`; every global descriptor can be read."""

    def bind(self, card: ModelCard) -> Self:
        """See `Reranker.bind`."""
        return self

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        """See `Reranker.score`."""
        vectors = [query.vector for query in queries]
        return score_blocks(vectors, candidates, gallery, self._scored, self._device)

    @abstractmethod
    def score_vectors(self, queries: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Scores [Q, M] of queries [Q, D] and their own candidates [Q, M, D], float32 of unit length."""

    @torch.inference_mode()
    def _scored(self, queries: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return self.score_vectors(queries.to(self._device), vectors.to(self._device))


class NeighbourhoodReranker(ListReranker):
    """A reranker that compares the candidates of a query with each other.

    Args:
        reach: of how many of the first candidates the neighbours join the list.
        neighbours: how many of each.
        device: see `ListReranker`.
    """

    def __init__(self, reach: int, neighbours: int, device: str = "cpu") -> None:
        super().__init__(device)
        self._reach, self._neighbours = reach, neighbours

    def further_searches(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FurtherSearch]:
        """See `SearchingReranker.further_searches`: the first candidates are searched with."""
        return [
            FurtherSearch(np.asarray(gallery.globals(ids[: self._reach]), np.float32), self._neighbours)
            if self._reach and len(ids)
            else FurtherSearch(np.zeros((0, len(query.vector)), np.float32), self._neighbours)
            for query, ids in zip(queries, candidates.ids, strict=True)
        ]

    def explain(
        self, query: Description, candidates: Candidates, ids: Sequence[str], gallery: DescriptorSource
    ) -> list[Neighbours]:
        """See `ExplainingReranker.explain`: the candidates that changed each score, and what they changed."""
        names = candidates.ids[0]
        vectors = np.require(gallery.globals(names), np.float32, ["C", "W"])
        one = torch.from_numpy(query.vector)[None], torch.from_numpy(vectors)[None]
        after = self._scored(*one)[0].cpu().numpy()
        rows = [names.index(name) for name in ids]
        with torch.inference_mode():
            shares = self.shares(one[0].to(self._device), one[1].to(self._device), rows).cpu().numpy()
        return [
            neighbours_of(names, share, row, float(vectors[row] @ query.vector), float(after[row]))
            for row, share in zip(rows, shares, strict=True)
        ]

    @abstractmethod
    def shares(self, queries: torch.Tensor, vectors: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """[R, M] how much each candidate counts in the score of those in `rows`, at least 0; see `Neighbours`.

        Args:
            queries, vectors: one query [1, D] and its candidates [1, M, D].
            rows: R candidates.
        """


def neighbours_of(names: Sequence[str], shares: FloatArray, row: int | None, before: float, after: float) -> Neighbours:
    """The explanation of a score by the shares [M] of all candidates; that of `row`, the image itself, is left out."""
    order = [int(place) for place in np.argsort(-shares, kind="stable") if shares[place] > 0 and place != row]
    return Neighbours([names[place] for place in order], np.asarray(shares[order], np.float32), before, after)


def nearest(products: torch.Tensor, count: int) -> torch.Tensor:
    """[Q, M, k] int64: the k = min(`count`, M) nearest of each row of products [Q, M, M], itself first.

    A duplicate must not displace an image from its own neighbours.
    """
    own = products.clone()
    own.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    return own.topk(min(count, products.shape[2]), dim=2).indices


def refuse_checkpoint(name: str, checkpoint: str | Path | None) -> None:
    """Raises UsageError where a checkpoint is given to a reranker that has no weights."""
    if checkpoint is not None:
        raise UsageError(f"reranker {name} is not trained; it takes no checkpoint ({checkpoint})")
