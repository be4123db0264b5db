"""The reranker `k_reciprocal`: two images are alike when their mutual neighbours are the same.

Zhong, Zheng, Cao, Li, "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017, sections 3.2 to 3.4.
The query and its candidates are the images; N(p, k) are p itself and its k nearest, d the squared Euclidean distance.

    R(p, k)  = {g in N(p, k): p in N(g, k)}
    R*(p)    = R(p, k1) + all R(g, k1 / 2), g in R(p, k1),
               of which R(p, k1) has at least two thirds
    V_p(g)   = exp(-d(p, g)) for g in R*(p), else 0; rows sum to 1
    V_p     <- mean of V_g over the k2 nearest g of p, itself included
    score(g) = sum_i min(V_q(i), V_g(i)) / sum_i max(V_q(i), V_g(i))

The chain fuses it with the global similarity: `weight` is the paper's lambda. Rows that sum to 1 are a detail
of the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch

from pipeline.rerank.classics.candidate_lists import NeighbourhoodReranker, nearest, refuse_checkpoint


class KReciprocal(NeighbourhoodReranker):
    """Scores by the Jaccard similarity of k-reciprocal neighbours, in [0, 1].

    Args:
        k1, k2: see the formulas; k2 = 1 averages nothing.
        reach: see `NeighbourhoodReranker`.
        device: where products are computed.
    """

    def __init__(self, k1: int = 4, k2: int = 2, reach: int = 10, device: str = "cpu") -> None:
        super().__init__(reach, k1 + 1, device)
        self._k1, self._k2 = k1, k2

    @classmethod
    def load(
        cls, checkpoint: str | Path | None = None, device: str = "cpu", k1: int = 4, k2: int = 2, reach: int = 10
    ) -> Self:
        """The reranker with these settings; see the class. Raises UsageError where a checkpoint is given."""
        refuse_checkpoint("k_reciprocal", checkpoint)
        return cls(k1, k2, reach, device)

    def score_vectors(self, queries: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """See `ListReranker.score_vectors`."""
        encoded = self._encoded(queries, vectors)
        query, candidates = encoded[:, :1], encoded[:, 1:]
        return torch.minimum(query, candidates).sum(dim=2) / torch.maximum(query, candidates).sum(dim=2)

    def shares(self, queries: torch.Tensor, vectors: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """See `NeighbourhoodReranker.shares`: of what the encodings of query and candidate have in common.

        The share of the query itself is the rest.
        """
        encoded = self._encoded(queries, vectors)[0]
        common = torch.minimum(encoded[:1], encoded[1:][list(rows)])
        return common[:, 1:] / common.sum(dim=1, keepdim=True).clamp(min=1e-12)

    def _encoded(self, queries: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """V [Q, 1 + M, 1 + M] of the query, which is the first, and its candidates."""
        images = torch.cat([queries.unsqueeze(1), vectors], dim=1)
        products = torch.bmm(images, images.transpose(1, 2))
        order = nearest(products, max(self._k1 + 1, self._k2))
        related = self._related(order[:, :, : self._k1 + 1], order[:, :, : round(self._k1 / 2) + 1], products)
        encoded = torch.exp(2 * products - 2) * related
        encoded = encoded / encoded.sum(dim=2, keepdim=True)
        near = order[:, :, : self._k2]
        return torch.bmm(_mask(near, products), encoded) / near.shape[2]

    def _related(self, near: torch.Tensor, nearer: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
        """R* [Q, M, M] as 0 and 1."""
        whole, half = _reciprocal(_mask(near, products)), _reciprocal(_mask(nearer, products))
        shared = torch.bmm(whole, half.transpose(1, 2))
        joins = whole * (3 * shared >= 2 * half.sum(dim=2).unsqueeze(1))
        return ((whole + torch.bmm(joins, half)) > 0).to(products.dtype)


def _mask(rows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """[Q, M, M] with 1 at the columns `rows` [Q, M, k] of each row, else 0."""
    return torch.zeros_like(like).scatter_(2, rows, 1.0)


def _reciprocal(mask: torch.Tensor) -> torch.Tensor:
    return mask * mask.transpose(1, 2)
