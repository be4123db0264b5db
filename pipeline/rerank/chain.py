"""A chain of rerankers over the candidates of many queries.

Called by search and evaluate. Each link looks at the head of the list that the link before it left, fuses its scores
with the ones that the list had, and sorts that head again; what is behind the head stays where it was. Scores are
fused as AMES does it (Suma et al., ECCV 2024, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.types import Candidates, Description, DescriptorSource, FloatArray, Ranking, Reranker


@dataclass(frozen=True)
class RerankStep:
    """One link of a chain.

    Attributes:
        name: the reranker's registry name.
        reranker: what scores.
        top: how many of the first candidates it looks at.
        weight: of the score that the list had before, in the fused one.
    """

    name: str
    reranker: Reranker
    top: int
    weight: float


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
    scores = [np.array(values, dtype=np.float32) for values in candidates.scores]
    seen: list[dict[str, FloatArray]] = [{} for _ in orders]
    for step in chain:
        heads = [order[: step.top] for order in orders]
        part = Candidates(
            candidates.query_ids,
            [[ids[row] for row in head] for ids, head in zip(candidates.ids, heads, strict=True)],
            [values[head] for values, head in zip(scores, heads, strict=True)],
        )
        for number, reranked in enumerate(step.reranker.score(queries, part, gallery)):
            head = heads[number]
            seen[number][step.name] = _spread(reranked, head, len(orders[number]))
            scores[number][head] = fuse(scores[number][head], reranked, step.weight)
            orders[number][: step.top] = head[np.argsort(-scores[number][head], kind="stable")]
    return [_ranking(candidates, number, order, scores[number], seen[number]) for number, order in enumerate(orders)]


def fuse(similarity: FloatArray, reranked: FloatArray, weight: float) -> FloatArray:
    """Both [K]; `weight` in [0, 1] is that of `similarity`: 1 keeps the old order, 0 trusts the reranker alone."""
    return np.asarray(weight * similarity + (1 - weight) * reranked, dtype=np.float32)


def _ranking(
    candidates: Candidates, number: int, order: np.ndarray, scores: FloatArray, seen: dict[str, FloatArray]
) -> Ranking:
    ids = candidates.ids[number]
    explanation = {"global_rank": order + 1, "global_score": np.asarray(candidates.scores[number])[order]}
    return Ranking(
        candidates.query_ids[number],
        [ids[row] for row in order],
        scores[order],
        explanation | {name: values[order] for name, values in seen.items()},
    )


def _spread(values: FloatArray, rows: np.ndarray, size: int) -> FloatArray:
    """`values` at `rows` of an array of `size`, NaN elsewhere: the reranker did not look there."""
    spread = np.full(size, np.nan, dtype=np.float32)
    spread[rows] = values
    return spread
