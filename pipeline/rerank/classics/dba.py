"""The reranker `dba`: database augmentation, each candidate averaged with its own neighbours.

Turcot and Lowe, "Better Matching with Fewer Features", ICCV workshops 2009; for global descriptors with the weights of
Gordo, Almazan, Revaud, Larlus, "End-to-End Learning of Deep Visual Representations for Image Retrieval", IJCV 2017:

    x' = sum_r w_r x_r / |sum_r w_r x_r|,    w_r = (k - r) / k,    r = 0 ... k - 1,

where x_0 is the image itself and x_r its r-th neighbour. The score is q x'. The papers augment a whole database before
any search; here it is done for the candidates of a query when they are needed, so an index stays as it is. Neighbours
are sought in the list, which those of the first candidates have joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch

from pipeline.rerank.classics.candidate_lists import NeighbourhoodReranker, nearest, refuse_checkpoint


class DatabaseAugmentation(NeighbourhoodReranker):
    """Scores by the similarity to augmented candidates.

    Args:
        k: how many images are averaged, the candidate included.
        reach: see `NeighbourhoodReranker`.
        device: where products are computed.
    """

    def __init__(self, k: int = 3, reach: int = 10, device: str = "cpu") -> None:
        super().__init__(reach, k, device)
        self._k = k

    @classmethod
    def load(cls, checkpoint: str | Path | None = None, device: str = "cpu", k: int = 3, reach: int = 10) -> Self:
        """The reranker with these settings; see the class. Raises UsageError where a checkpoint is given."""
        refuse_checkpoint("dba", checkpoint)
        return cls(k, reach, device)

    def score_vectors(self, queries: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """See `ListReranker.score_vectors`. Augmented vectors are mixes W X of X, so they are never written out:
        q x' = W X q, and their squared lengths are the diagonal of W X X^T W^T."""
        products = torch.bmm(vectors, vectors.transpose(1, 2))
        mix = self._mix(products)
        similarity = torch.bmm(mix, torch.bmm(vectors, queries.unsqueeze(2))).squeeze(2)
        lengths = (torch.bmm(mix, products) * mix).sum(dim=2)
        return similarity / lengths.clamp(min=1e-12).sqrt()

    def shares(self, queries: torch.Tensor, vectors: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """See `NeighbourhoodReranker.shares`: of the augmented candidate."""
        mix = self._mix(torch.bmm(vectors, vectors.transpose(1, 2)))[0, list(rows)]
        return mix / mix.sum(dim=1, keepdim=True)

    def _mix(self, products: torch.Tensor) -> torch.Tensor:
        """W [Q, M, M], the weights w_r of each candidate's row, of products [Q, M, M]."""
        rows = nearest(products, self._k)
        ranks = torch.arange(rows.shape[2], device=rows.device)
        weights = ((self._k - ranks) / self._k).expand(rows.shape)
        return torch.zeros_like(products).scatter_(2, rows, weights)
