"""The rerankers `average_qe` and `alpha_qe`: the query is averaged with its neighbours and searched again.

Average query expansion: Chum, Philbin, Sivic, Isard, Zisserman, "Total Recall: Automatic Query Expansion with a
Generative Feature Model for Object Retrieval", ICCV 2007. Alpha query expansion: Radenovic, Tolias, Chum,
"Fine-Tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019. With the first k images x_i of the
list, s_i their similarity to the query q,

    q' = (q + sum_i w_i x_i) / |q + sum_i w_i x_i|,    w_i = 1 (average) or max(s_i, 0)^alpha (alpha),

and the score of an image x is q' x. After `matching` in a chain only images whose geometry was verified may expand, as
in Total Recall, and s_i is the score that matching gave them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch

from pipeline.errors import UsageError
from pipeline.rerank.candidate_vectors import score_blocks
from pipeline.rerank.classics.candidate_lists import ListReranker, neighbours_of, refuse_checkpoint
from pipeline.types import Candidates, Description, DescriptorSource, FloatArray, FurtherSearch, Neighbours

Expanding = Literal["list", "matching"]


class QueryExpansion(ListReranker):
    """Scores by the similarity to the expanded query.

    Args:
        k: how many images expand it, at most.
        alpha: exponent of the weights; 0: all weigh the same.
        neighbours: "list": the first k of the list; "matching": those that the reranker matching scored best.
        verified: the least score of matching.
        device: where products are computed.
    """

    name = ""

    def __init__(
        self, k: int, alpha: float, neighbours: Expanding = "list", verified: float = 0.4, device: str = "cpu"
    ) -> None:
        super().__init__(device)
        self._k, self._alpha, self._neighbours, self._verified = k, alpha, neighbours, verified

    def further_searches(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FurtherSearch]:
        """See `SearchingReranker.further_searches`: the expanded query. Raises as `score` does."""
        return [FurtherSearch(vector[None]) for vector in self.expand(queries, candidates, gallery)]

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        """See `Reranker.score`. Raises UsageError where matching has to be before it in the chain and is not."""
        expanded = self.expand(queries, candidates, gallery)
        return score_blocks(expanded, candidates, gallery, self._scored, self._device)

    def score_vectors(self, queries: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """See `ListReranker.score_vectors`."""
        return torch.bmm(vectors, queries.unsqueeze(2)).squeeze(2)

    def explain(
        self, query: Description, candidates: Candidates, ids: Sequence[str], gallery: DescriptorSource
    ) -> list[Neighbours]:
        """See `ExplainingReranker.explain`: what expanded the query, for every image the same, and its effect.

        An image that expanded the query is among its own neighbours. Raises as `score` does.
        """
        rows, weights, _ = self._expanding(query, candidates, 0, gallery)
        shares = np.zeros(len(candidates.ids[0]), np.float32)
        shares[rows] = weights / (1 + weights.sum())
        expanded = self.expand([query], candidates, gallery)[0]
        return [
            neighbours_of(candidates.ids[0], shares, None, float(vector @ query.vector), float(vector @ expanded))
            for vector in gallery.globals(ids)
        ]

    def expand(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        """The expanded query [D] of each query, of unit length; the query itself where nothing may expand it."""
        found = []
        for number, query in enumerate(queries):
            _, weights, vectors = self._expanding(query, candidates, number, gallery)
            mean = query.vector + weights @ vectors
            found.append(np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32))
        return found

    def _expanding(
        self, query: Description, candidates: Candidates, number: int, gallery: DescriptorSource
    ) -> tuple[list[int], FloatArray, FloatArray]:
        """The places in the list of the n images that expand a query, their weights [n] and descriptors [n, D]."""
        rows = self._rows(candidates, number)
        ids = [candidates.ids[number][row] for row in rows]
        vectors = gallery.globals(ids) if ids else np.zeros((0, len(query.vector)), np.float32)
        similarity = vectors @ query.vector
        if self._neighbours == "matching":
            similarity = candidates.earlier["matching"][number][rows]
        return rows, np.maximum(similarity, 0) ** self._alpha, vectors

    def _rows(self, candidates: Candidates, number: int) -> list[int]:
        """Places in the list of the images that expand a query, best first."""
        if self._neighbours == "list":
            return list(range(min(self._k, len(candidates.ids[number]))))
        if "matching" not in candidates.earlier:
            raise UsageError(
                f"rerank.{self.name}.neighbours = matching needs matching before it in the chain; "
                f"give --rerank matching,{self.name}"
            )
        scores = candidates.earlier["matching"][number]
        best = np.argsort(-scores, kind="stable")  # NaN, where matching did not look, comes last
        return [int(row) for row in best[: self._k] if scores[row] >= self._verified]


class AverageQueryExpansion(QueryExpansion):
    """Query expansion with equal weights."""

    name = "average_qe"

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None = None,
        device: str = "cpu",
        k: int = 2,
        neighbours: Expanding = "list",
        verified: float = 0.4,
    ) -> Self:
        """The reranker with these settings; see `QueryExpansion`. Raises UsageError where a checkpoint is given."""
        refuse_checkpoint(cls.name, checkpoint)
        return cls(k, 0.0, neighbours, verified, device)


class AlphaQueryExpansion(QueryExpansion):
    """Query expansion whose weights are powers of the similarity."""

    name = "alpha_qe"

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None = None,
        device: str = "cpu",
        k: int = 2,
        alpha: float = 3.0,
        neighbours: Expanding = "list",
        verified: float = 0.4,
    ) -> Self:
        """The reranker with these settings; see `QueryExpansion`. Raises UsageError where a checkpoint is given."""
        refuse_checkpoint(cls.name, checkpoint)
        return cls(k, alpha, neighbours, verified, device)
