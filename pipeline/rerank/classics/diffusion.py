"""The reranker `diffusion`: similarity flows from the query's neighbours along the graph of mutual neighbours.

Iscen, Tolias, Avrithis, Furon, Chum, "Efficient Diffusion on Region Manifolds: Recovering Small Objects with Compact
CNN Representations", CVPR 2017, with one global descriptor per image:

    A_ij = max(x_i x_j, 0)^gamma where i and j are each among the k nearest of the other, A_ii = 0
    S    = D^-1/2 A D^-1/2,    D = diag(A 1)
    y_i  = max(q x_i, 0)^gamma for the `query_k` nearest x_i of the query q, else 0
    f    solves (I - alpha S) f = (1 - alpha) y

The system is solved by conjugate gradients on the sparse graph of the candidates, which is the paper's truncation to
the first images of a search. A score is f over its largest value, in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_array, csr_array, eye_array
from scipy.sparse.linalg import cg

from pipeline.rerank.classics.candidate_lists import NeighbourhoodReranker, nearest, refuse_checkpoint

Doubles = npt.NDArray[np.float64]


class Diffusion(NeighbourhoodReranker):
    """Scores by the similarity that reaches a candidate; 0 where none does.

    Args:
        k, query_k, gamma, alpha: see the formulas.
        iterations: of conjugate gradients, at most.
        reach: see `NeighbourhoodReranker`.
        device: where products are computed; the systems are solved on the CPU.
    """

    def __init__(
        self,
        k: int = 4,
        query_k: int = 1,
        gamma: float = 3.0,
        alpha: float = 0.9,
        iterations: int = 20,
        reach: int = 10,
        device: str = "cpu",
    ) -> None:
        super().__init__(reach, k, device)
        self._k, self._query_k = k, query_k
        self._gamma, self._alpha, self._iterations = gamma, alpha, iterations

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None = None,
        device: str = "cpu",
        k: int = 4,
        query_k: int = 1,
        gamma: float = 3.0,
        alpha: float = 0.9,
        iterations: int = 20,
        reach: int = 10,
    ) -> Self:
        """The reranker with these settings; see the class. Raises UsageError where a checkpoint is given."""
        refuse_checkpoint("diffusion", checkpoint)
        return cls(k, query_k, gamma, alpha, iterations, reach, device)

    def score_vectors(self, queries: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """See `ListReranker.score_vectors`."""
        found = [np.asarray(f / (f.max() or 1.0), np.float32) for _, f in self._flows(queries, vectors)]
        return torch.from_numpy(np.stack(found)).to(vectors.device)

    def shares(self, queries: torch.Tensor, vectors: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """See `NeighbourhoodReranker.shares`: f_j is alpha S_ji f_i from each, the rest from the query."""
        ((graph, flow),) = self._flows(queries, vectors)
        incoming = self._alpha * (graph[list(rows)].toarray() * flow)
        reached = np.maximum(flow[list(rows)], 1e-12)[:, None]
        return torch.from_numpy(np.clip(incoming / reached, 0, None).astype(np.float32))

    def _flows(self, queries: torch.Tensor, vectors: torch.Tensor) -> list[tuple[csr_array[Any], Doubles]]:
        """S [M, M] and f [M] of each query [Q, D] and its candidates [Q, M, D]."""
        products = torch.bmm(vectors, vectors.transpose(1, 2))
        rows = nearest(products, self._k + 1)[:, :, 1:].cpu().numpy()
        similarity = torch.bmm(vectors, queries.unsqueeze(2)).squeeze(2)
        first = similarity.topk(min(self._query_k, similarity.shape[1]), dim=1)
        start = torch.zeros_like(similarity).scatter_(1, first.indices, first.values.clamp(min=0) ** self._gamma)
        weights = (products.clamp(min=0) ** self._gamma).cpu().numpy().astype(np.float64)
        pairs = zip(rows, weights, start.cpu().numpy().astype(np.float64), strict=True)
        return [self._solve(*one) for one in pairs]

    def _solve(self, rows: npt.NDArray[np.int64], weights: Doubles, start: Doubles) -> tuple[csr_array[Any], Doubles]:
        """S [M, M] and f [M] of neighbours [M, k], weights [M, M] of all pairs and y [M]."""
        graph = _normalised(_mutual(rows, weights))
        laplacian = eye_array(len(start), format="csr") - self._alpha * graph
        found, _ = cg(laplacian, (1 - self._alpha) * start, rtol=1e-6, maxiter=self._iterations)
        return graph, found


def _mutual(rows: npt.NDArray[np.int64], weights: Doubles) -> csr_array[Any]:
    """A [M, M] of the neighbours [M, k] of each image."""
    size, count = rows.shape
    ends = (np.repeat(np.arange(size), count), rows.ravel())
    near = coo_array((np.ones(size * count), ends), shape=(size, size)).tocsr()
    both = (near * near.T).tocoo()
    return coo_array((weights[both.row, both.col], (both.row, both.col)), shape=(size, size)).tocsr()


def _normalised(affinity: csr_array[Any]) -> csr_array[Any]:
    """S; an image without neighbours has a row of zeros."""
    degrees = np.asarray(affinity.sum(axis=1)).ravel()
    scale = 1 / np.sqrt(np.where(degrees > 0, degrees, 1.0))
    edges = affinity.tocoo()
    values = edges.data * scale[edges.row] * scale[edges.col]
    return coo_array((values, (edges.row, edges.col)), shape=edges.shape).tocsr()
