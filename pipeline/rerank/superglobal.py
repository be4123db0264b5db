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
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch.nn import functional

from pipeline.errors import RelookError
from pipeline.rerank.side_by_side import side_by_side
from pipeline.types import Candidates, Description, DescriptorSource, FloatArray, ModelCard

# Bytes of candidate vectors that are looked at together; a block of queries is as large as fits.
_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class Refinement:
    """The candidates of Q queries, each refined by its neighbours: fixed mixes of candidates, so never written out.

    Attributes:
        vectors: [Q, M, D] the candidates' descriptors.
        mixing: [Q, M, M] how much of each candidate is in each refined one; rows sum to 1.
    """

    vectors: torch.Tensor
    mixing: torch.Tensor

    def similarity(self, queries: torch.Tensor) -> torch.Tensor:
        """[Q, M] products of queries [Q, D] with the refined descriptors."""
        plain = torch.bmm(self.vectors, queries.unsqueeze(2))
        return torch.bmm(self.mixing, plain).squeeze(2)

    def descriptors(self, rows: torch.Tensor) -> torch.Tensor:
        """[Q, R, D] the refined descriptors of the candidates `rows` [Q, R] int64; not of unit length."""
        chosen = self.mixing.gather(1, rows.unsqueeze(2).expand(-1, -1, self.mixing.shape[2]))
        return torch.bmm(chosen, self.vectors)


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
        blocks = self._blocks(queries, candidates)
        read = (self._read(block, queries, candidates, gallery) for block in blocks)
        found = side_by_side(lambda part: self.refine(*part).cpu().numpy(), read, self._device)
        for block, result in zip(blocks, found, strict=True):
            for row, values in zip(block, result, strict=True):
                scores[row] = values
        return scores

    @torch.inference_mode()
    def refine(self, queries: torch.Tensor, gallery: torch.Tensor) -> torch.Tensor:
        """Scores [Q, M] of queries [Q, D] against their own candidates [Q, M, D], both float32 of unit length."""
        queries = queries.to(self._device)
        refinement = self.neighbourhood(gallery)
        first = refinement.similarity(queries)
        second = refinement.similarity(self.expand(refinement, first))
        return (1 - self._expansion) * first + self._expansion * second

    @torch.inference_mode()
    def neighbourhood(self, gallery: torch.Tensor) -> Refinement:
        """Refine candidates [Q, M, D] by themselves and their K nearest among each other (equation 8).

        Candidates that are equally near as the Kth take part as well.
        """
        gallery = gallery.to(self._device)
        products = torch.bmm(gallery, gallery.transpose(1, 2))
        far = products < _kth_largest(products, min(self._k + 1, gallery.shape[1]))
        if self._power != 1:
            products = products.clamp_(min=0).pow_(self._power)
        mixing = products.mul_(self._beta).masked_fill_(far, 0)
        mixing.diagonal(dim1=1, dim2=2).fill_(1)
        return Refinement(gallery, mixing.div_(mixing.sum(dim=2, keepdim=True)))

    @torch.inference_mode()
    def expand(self, refinement: Refinement, first: torch.Tensor) -> torch.Tensor:
        """Expanded queries [Q, D]: the element-wise maximum of those refined candidates that `first` [Q, M] puts first
        (equation 9)."""
        best = first.topk(min(self._k + 1, first.shape[1]), dim=1).indices
        expanded = refinement.descriptors(best).amax(dim=1)
        return functional.normalize(expanded, dim=1) if self._normalise else expanded

    def _read(
        self, block: Sequence[int], queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries [Q, D] and their candidates [Q, M, D], fetched at once."""
        names = list(chain.from_iterable(candidates.ids[row] for row in block))
        # Whatever store they come from, torch needs them contiguous and writable.
        flat = torch.from_numpy(np.require(gallery.globals(names), np.float32, ["C", "W"]))
        asked = torch.from_numpy(np.stack([queries[row].vector for row in block]))
        return asked, flat.view(len(block), len(names) // len(block), -1)

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


def _kth_largest(values: torch.Tensor, k: int) -> torch.Tensor:
    """[..., 1]: the kth largest along the last dimension."""
    if values.device.type == "cpu":  # NumPy's partition is three times as fast as torch's topk
        place = values.shape[-1] - k
        return torch.from_numpy(np.partition(values.numpy(), place, axis=-1)[..., place : place + 1])
    return values.topk(k, dim=-1).values[..., -1:]
