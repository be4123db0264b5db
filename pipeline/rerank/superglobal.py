"""SuperGlobal's re-ranking: global descriptors alone, refined by their neighbours among the candidates.

A reranker that needs no training. Shao, Chen, Karpur, Cui, Araujo, Cao, "Global Features are All You Need for Image
Retrieval and Reranking", ICCV 2023, section 3.3 (equations 8 to 10), with the official code's details: the nearest
neighbour of a candidate is taken to be itself and weighs 1; refined descriptors are not normalised again; the expanded
query is the element-wise maximum of the best K + 1 refined descriptors, without the query itself. The defaults here are
the paper's; `pipeline.config.SuperGlobalConfig` has those that cost no R@1, and docs/results.md the difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from pipeline.errors import RelookError
from pipeline.types import Candidates, Description, DescriptorSource, FloatArray, ModelCard

# Bytes of candidate vectors that are looked at together; a block of queries is as large as fits.
_BLOCK_BYTES = 64 << 20


class SuperGlobalReranker:
    """Scores candidates by their refined descriptors.

    Args:
        k: K, how many neighbours refine a candidate, and (with itself) how many candidates expand the query.
        beta, power: a neighbour weighs beta * similarity ** power, where a negative similarity counts as 0 unless
            `power` is 1. A power above 1 lets near duplicates refine and distant ones not.
        expansion: share of the expanded query's similarity in the score, the rest is the query's own.
        normalise: give the expanded query unit length, so that both similarities are cosines of refined descriptors.
        device: where the products are computed.
    """

    needs = frozenset({"globals"})

    def __init__(
        self,
        k: int = 9,
        beta: float = 0.15,
        power: float = 1.0,
        expansion: float = 0.5,
        normalise: bool = False,
        device: str = "cpu",
    ) -> None:
        self._k = k
        self._beta = beta
        self._power = power
        self._expansion = expansion
        self._normalise = normalise
        self._device = torch.device(device)

    def check(self, card: ModelCard) -> None:
        """Any global descriptor will do."""

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        """The mix of the two similarities of equation 10, one [K] float32 array per query."""
        if len(queries) != len(candidates.ids):
            raise RelookError(f"{len(queries)} queries for {len(candidates.ids)} lists of candidates")
        scores: list[FloatArray] = [np.zeros(0, np.float32)] * len(queries)
        for block in self._blocks(queries, candidates):
            vectors = np.stack([gallery.globals(candidates.ids[row]) for row in block])
            asked = np.stack([queries[row].vector for row in block])
            result = self.refine(torch.from_numpy(asked), torch.from_numpy(vectors)).cpu().numpy()
            for row, values in zip(block, result, strict=True):
                scores[row] = values
        return scores

    @torch.inference_mode()
    def refine(self, queries: torch.Tensor, gallery: torch.Tensor) -> torch.Tensor:
        """Scores [Q, M] of queries [Q, D] against their own candidates [Q, M, D], both float32 of unit length.

        A refined descriptor is a fixed mix of K + 1 candidates, so every product with one is the same mix of products
        with the candidates: [Q, M, K + 1, D] is never made.
        """
        queries, gallery = queries.to(self._device), gallery.to(self._device)
        count = min(self._k + 1, gallery.shape[1])
        similarity, neighbours = torch.bmm(gallery, gallery.transpose(1, 2)).topk(count, dim=2)
        weights = self._beta * (similarity if self._power == 1 else similarity.clamp(min=0) ** self._power)
        weights[:, :, 0] = 1
        weights = weights / weights.sum(dim=2, keepdim=True)

        first = _mix(weights, neighbours, torch.bmm(gallery, queries.unsqueeze(2)).squeeze(2))
        best = first.topk(count, dim=1).indices
        expanded = _refined(weights, neighbours, gallery, best).amax(dim=1)
        if self._normalise:
            expanded = functional.normalize(expanded, dim=1)
        second = _mix(weights, neighbours, torch.bmm(gallery, expanded.unsqueeze(2)).squeeze(2))
        return (1 - self._expansion) * first + self._expansion * second

    def _blocks(self, queries: Sequence[Description], candidates: Candidates) -> list[list[int]]:
        """Queries with equally many candidates, in blocks that fit."""
        by_length: dict[int, list[int]] = defaultdict(list)
        for row, ids in enumerate(candidates.ids):
            if ids:
                by_length[len(ids)].append(row)
        blocks = []
        for length, rows in by_length.items():
            size = max(1, _BLOCK_BYTES // (length * (4 * queries[rows[0]].vector.shape[0] + 4 * length)))
            blocks += [rows[start : start + size] for start in range(0, len(rows), size)]
        return blocks


def _mix(weights: torch.Tensor, neighbours: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Weighted sums [Q, M] of `values` [Q, M] over the `neighbours` [Q, M, K + 1]."""
    rows = neighbours.flatten(1)
    return (weights * values.gather(1, rows).view_as(weights)).sum(dim=2)


def _refined(
    weights: torch.Tensor, neighbours: torch.Tensor, gallery: torch.Tensor, rows: torch.Tensor
) -> torch.Tensor:
    """The refined descriptors [Q, R, D] of the candidates `rows` [Q, R]."""
    size = rows.shape[1], weights.shape[2]
    chosen = rows.unsqueeze(2).expand(-1, -1, size[1])
    mixing = weights.gather(1, chosen)
    sources = neighbours.gather(1, chosen).flatten(1)
    vectors = gallery.gather(1, sources.unsqueeze(2).expand(-1, -1, gallery.shape[2]))
    return torch.einsum("qrk,qrkd->qrd", mixing, vectors.view(-1, *size, gallery.shape[2]))
