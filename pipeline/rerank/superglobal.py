"""SuperGlobal's re-ranking: global descriptors alone, refined by their neighbours among the candidates.

A reranker that needs no training. Shao, Chen, Karpur, Cui, Araujo, Cao, "Global Features are All You Need for Image
Retrieval and Reranking", ICCV 2023, section 3.3 (equations 8 to 10), with the official code's details: the nearest
neighbour of a candidate is taken to be itself and weighs 1; refined descriptors are not normalised again; the expanded
query is the element-wise maximum of the best K + 1 refined descriptors, without the query itself. The defaults here are
the paper's; `superglobal_settings.py` has those that cost no R@1, and docs/results.md the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from pipeline.rerank.candidate_vectors import score_blocks
from pipeline.rerank.parallel_batches import ThreadMemory
from pipeline.rerank.superglobal_base import SuperGlobalBase
from pipeline.types import Candidates, Description, DescriptorSource, FloatArray, Neighbours

# Rows of one product: fewer save more operations above the diagonal, and take longer for each.
_ROWS = 80
# For products, which nobody keeps.
_MEMORY = ThreadMemory()


@dataclass(frozen=True)
class Refinement:
    """The candidates of Q queries, each refined by its neighbours: fixed mixes of candidates, so never written out.

    Attributes:
        vectors: [Q, M, D] the candidates' descriptors.
        neighbours: [Q, M, K + 1] int64, the candidates that each refined one is mixed of, itself among them.
        weights: [Q, M, K + 1] how much of each; they sum to 1.
    """

    vectors: torch.Tensor
    neighbours: torch.Tensor
    weights: torch.Tensor

    def similarity(self, queries: torch.Tensor) -> torch.Tensor:
        """[Q, M] products of queries [Q, D] with the refined descriptors."""
        if queries.device.type == "cpu":  # a batch of such products is slower than the memory
            plain = torch.stack([torch.mv(rows, query) for rows, query in zip(self.vectors, queries, strict=True)])
        else:
            plain = torch.bmm(self.vectors, queries.unsqueeze(2)).squeeze(2)
        return (self.weights * plain.gather(1, self.neighbours.flatten(1)).view_as(self.weights)).sum(dim=2)

    def descriptors(self, rows: torch.Tensor) -> torch.Tensor:
        """[Q, R, D] the refined descriptors of the candidates `rows` [Q, R] int64; not of unit length."""
        count, candidates, width = self.vectors.shape
        chosen = rows.unsqueeze(2).expand(-1, -1, self.weights.shape[2])
        first = torch.arange(count, device=rows.device).unsqueeze(1) * candidates
        sources = (self.neighbours.gather(1, chosen).flatten(1) + first).flatten()
        parts = self.vectors.reshape(-1, width).index_select(0, sources).view(*chosen.shape, width)
        return torch.einsum("qrk,qrkd->qrd", self.weights.gather(1, chosen), parts)


class SuperGlobalReranker(SuperGlobalBase):
    """Scores candidates by their refined descriptors; see `SuperGlobalBase` for the arguments."""

    @property
    def _device(self) -> torch.device:
        return torch.device(self._device_name)

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        """The mix of the two similarities of equation 10, one [K] float32 array per query."""
        vectors = [query.vector for query in queries]
        return score_blocks(vectors, candidates, gallery, self.refine, self._device)

    @torch.inference_mode()
    def explain(
        self, query: Description, candidates: Candidates, ids: Sequence[str], gallery: DescriptorSource
    ) -> list[Neighbours]:
        """See `ExplainingReranker.explain`: the candidates that refined each image, and what that changed."""
        names = candidates.ids[0]
        vectors = torch.from_numpy(np.require(gallery.globals(names), np.float32, ["C", "W"]))[None]
        wanted = torch.from_numpy(query.vector)[None].to(self._device)
        refinement = self.neighbourhood(vectors)
        before = (refinement.vectors[0] @ wanted[0]).tolist()
        after = refinement.similarity(wanted)[0].tolist()
        found = []
        for row in map(names.index, ids):
            others = refinement.neighbours[0, row] != row
            weights, order = refinement.weights[0, row][others].sort(descending=True)
            mixed = [names[place] for place in refinement.neighbours[0, row][others][order].tolist()]
            found.append(Neighbours(mixed, weights.cpu().numpy(), before[row], after[row]))
        return found

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
        """Refine candidates [Q, M, D] by themselves and their K nearest among each other (equation 8)."""
        gallery = gallery.to(self._device)
        products = _all_pairs(gallery)
        products.diagonal(dim1=1, dim2=2).fill_(torch.inf)  # duplicates must not displace a candidate from its own mix
        neighbours = _nearest(products, min(self._k + 1, gallery.shape[1]))
        similarity = products.gather(2, neighbours)
        weights = self._beta * (similarity if self._power == 1 else similarity.clamp(min=0) ** self._power)
        itself = torch.arange(gallery.shape[1], device=self._device).view(1, -1, 1)
        weights.masked_fill_(neighbours == itself, 1)
        return Refinement(gallery, neighbours, weights / weights.sum(dim=2, keepdim=True))

    @torch.inference_mode()
    def expand(self, refinement: Refinement, first: torch.Tensor) -> torch.Tensor:
        """Expanded queries [Q, D]: the element-wise maximum of those refined candidates that `first` [Q, M] puts first
        (equation 9)."""
        best = first.topk(min(self._k + 1, first.shape[1]), dim=1).indices
        expanded = refinement.descriptors(best).amax(dim=1)
        return functional.normalize(expanded, dim=1) if self._normalise else expanded


def _all_pairs(vectors: torch.Tensor) -> torch.Tensor:
    """Products [Q, M, M] of vectors [Q, M, D]; on a CPU they last until the same thread computes the next ones.

    On a CPU, of some rows with those before them at a time: what lies above the diagonal is the same as below it.
    """
    if vectors.device.type != "cpu":
        return torch.bmm(vectors, vectors.transpose(1, 2))
    count = vectors.shape[1]
    products = _MEMORY.of((len(vectors), count, count), vectors)
    for rows, found in zip(vectors, products, strict=True):
        for first in range(0, count, _ROWS):
            last = min(count, first + _ROWS)
            torch.mm(rows[first:last], rows[:last].T, out=found[first:last, :last])
            found[:first, first:last] = found[first:last, :first].T
    return products


def _nearest(products: torch.Tensor, count: int) -> torch.Tensor:
    """[Q, M, count] int64: where each row of products [Q, M, M] is largest, in no order."""
    if products.device.type == "cpu":  # NumPy's partition is three times as fast as torch's topk
        values = products.numpy()
        place = values.shape[2] - count
        near = values >= np.partition(values, place, axis=2)[:, :, place : place + 1]
        chosen = np.flatnonzero(near)
        if len(chosen) == near.shape[0] * near.shape[1] * count:  # more only where values are equal
            return torch.from_numpy(chosen % near.shape[2]).view(*near.shape[:2], count)
    return products.topk(count, dim=2).indices
