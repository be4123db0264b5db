"""A chain of rerankers over the candidates of many queries.

Called by search and evaluate. Each link looks at the head of the list that the link before it left, fuses its scores
with the ones that the list had, and sorts that head again; what is behind the head stays where it was. Scores are
fused as AMES does it (Suma et al., ECCV 2024, section 4).

The head is `top` candidates. With a `margin` it ends before the first candidate whose score is more than the margin
below that of the second one: a long way behind the leaders nothing changes. (Below the second, because the first is
often a near copy of the query, and no measure of the others.) What is not scored stays behind, and its fused score is
the one that it would have with the lowest score that the reranker gave: the list's scores never rise.

A reranker of lists may say `windows`. Then a head that is longer than one of them is scored window by window, and each
is sorted by the fused scores before the next: what a candidate had before the link moves with it, its place is the
one that the last of its windows gave it, and its score is at most that of the candidate before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.rerank.calibration import Calibration
from pipeline.rerank.windows import windows_of
from pipeline.types import Candidates, Description, DescriptorSource, FloatArray, Ranking, Reranker

Rows = npt.NDArray[np.int64]
_Scores = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class RerankStep:
    """One link of a chain.

    Attributes:
        name: the reranker's registry name.
        reranker: what scores.
        top: how many of the first candidates it looks at.
        weight: of the score that the list had before, in the fused one.
        margin: how far below the second candidate's score a candidate may be to be scored, in units of the scores that
            the list had before; None: all of `top` are scored.
        incoming: applied to the scores that the list had before, when they are fused; None: they are fused as they are.
        own: applied to the reranker's scores when they are fused. Explanations have them as they are.
    """

    name: str
    reranker: Reranker
    top: int
    weight: float
    margin: float | None = None
    incoming: Calibration | None = None
    own: Calibration | None = None

    def depth(self, scores: FloatArray) -> int:
        """How many of the first candidates of a query are scored, by the scores [K] of its list."""
        head = scores[: self.top]
        if self.margin is None or len(head) < 2:
            return len(head)
        behind = np.flatnonzero(head < head[1] - np.float32(self.margin))
        return int(behind[0]) if len(behind) else len(head)

    def fused(self, scores: FloatArray, reranked: FloatArray) -> FloatArray:
        """The scores [K] of a list after this link, whose first D candidates it gave the scores `reranked` [D]."""
        depth = len(reranked)
        if self.margin is None and self.incoming is None and self.own is None:
            return np.concatenate([fuse(scores[:depth], reranked, self.weight), scores[depth:]])
        before = (self.incoming or np.asarray)(scores)
        own = (self.own or np.asarray)(reranked)
        if not depth:
            return np.asarray(before, np.float32)
        behind = np.full(len(scores) - depth, own.min())
        found = fuse(before, np.concatenate([own, behind]), self.weight)
        found[depth:] = np.minimum.accumulate(np.minimum(found[depth:], found[:depth].min()))
        return found

    def reorder(self, order: Rows, scores: FloatArray, reranked: FloatArray) -> tuple[Rows, FloatArray]:
        """The rows [K] of a list and their scores [K] after this link scored the first D of them `reranked` [D]."""
        depth, found = len(reranked), self.fused(scores, reranked)
        sorted_ = np.argsort(-found[:depth], kind="stable")
        return (
            np.concatenate([order[:depth][sorted_], order[depth:]]),
            np.concatenate([found[:depth][sorted_], found[depth:]]),
        )


def apply_chain(
    chain: Sequence[RerankStep], queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
) -> list[Ranking]:
    """Rank the candidates of every query; an empty chain keeps the global order.

    Args:
        chain: applied in order.
        queries: one description per query, with locals where a reranker needs them.
        candidates: of the store.
        gallery: where candidates' descriptors are read.
    """
    orders = [np.arange(len(ids)) for ids in candidates.ids]
    scores = [np.array(values, dtype=np.float32) for values in candidates.scores]  # in the order of the list
    seen: list[dict[str, FloatArray]] = [{} for _ in orders]
    for step in chain:
        for number, reranked in enumerate(_sort_heads(step, queries, candidates, gallery, orders, scores)):
            seen[number][step.name] = _spread(reranked, orders[number][: len(reranked)], len(orders[number]))
            scores[number] = step.fused(scores[number], reranked)
            head = slice(len(reranked))
            scores[number][head] = np.minimum.accumulate(scores[number][head])  # other windows may have scored higher
    return [_ranking(candidates, number, order, scores[number], seen[number]) for number, order in enumerate(orders)]


def _sort_heads(
    step: RerankStep,
    queries: Sequence[Description],
    candidates: Candidates,
    gallery: DescriptorSource,
    orders: list[Rows],
    scores: list[FloatArray],
) -> list[FloatArray]:
    """Sort the head of every list, `orders` and the `scores` before this link beside them, by the fused scores.

    Returns:
        The reranker's own scores [D] of each head, in the new order.
    """
    depths = [step.depth(values) for values in scores]
    windows = windows_of(step.reranker)
    passes = [[slice(0, depth)] if windows is None else windows.passes(depth) for depth in depths]
    own = [np.zeros(depth, np.float32) for depth in depths]
    for turn in range(max(map(len, passes), default=0)):
        now = [(number, windows[turn]) for number, windows in enumerate(passes) if turn < len(windows)]
        part = Candidates(
            [candidates.query_ids[number] for number, _ in now],
            [[candidates.ids[number][row] for row in orders[number][window]] for number, window in now],
            [scores[number][window] for number, window in now],
        )
        found = step.reranker.score([queries[number] for number, _ in now], part, gallery)
        for (number, window), reranked in zip(now, found, strict=True):
            own[number][window] = reranked
            place = np.argsort(-step.fused(scores[number][window], reranked), kind="stable")
            for values in (orders[number], scores[number], own[number]):
                values[window] = values[window][place]
    return own


def fuse(similarity: _Scores, reranked: _Scores, weight: float) -> FloatArray:
    """Both [K]; `weight` in [0, 1] is that of `similarity`: 1 keeps the old order, 0 trusts the reranker alone."""
    return np.asarray(weight * similarity + (1 - weight) * reranked, dtype=np.float32)


def _ranking(
    candidates: Candidates, number: int, order: np.ndarray, scores: FloatArray, seen: dict[str, FloatArray]
) -> Ranking:
    """`order` are rows of the candidates, `scores` those of the list in that order."""
    ids = candidates.ids[number]
    explanation = {"global_rank": order + 1, "global_score": np.asarray(candidates.scores[number])[order]}
    return Ranking(
        candidates.query_ids[number],
        [ids[row] for row in order],
        scores,
        explanation | {name: values[order] for name, values in seen.items()},
    )


def _spread(values: FloatArray, rows: np.ndarray, size: int) -> FloatArray:
    """`values` at `rows` of an array of `size`, NaN elsewhere: the reranker did not look there."""
    spread = np.full(size, np.nan, dtype=np.float32)
    spread[rows] = values
    return spread
