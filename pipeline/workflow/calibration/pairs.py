"""Labelled pairs: for each query the candidates, their scores by the global search and by each reranker, and which are
relevant.

Collected once for `tuning`, by the chain as it is configured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.rerank import RerankStep, apply_chain
from pipeline.types import FloatArray
from pipeline.workflow.evaluation.query_sets import EvaluationQueries, open_queries
from pipeline.workflow.opened_index import OpenedIndex
from pipeline.workflow.progress import Reporter
from pipeline.workflow.queries import find_candidates

_BLOCK = 64
# Candidates per query, which bound the memory; positives beyond them count as not found.
_DEPTH = 2000


@dataclass(frozen=True)
class LabelledList:
    """One query and its K candidates, in the order of the global search.

    Attributes:
        label: of the query.
        scores: [K] float32, by the global search.
        relevant: [K] bool.
        positives: relevant images in the whole gallery, at least 1.
        reranked: [K] float32 by reranker; NaN where it did not score.
    """

    label: str
    scores: FloatArray
    relevant: npt.NDArray[np.bool_]
    positives: int
    reranked: Mapping[str, FloatArray]


def collect_pairs(
    config: Config, gallery: OpenedIndex, chain: Sequence[RerankStep], queries: str | None, reporter: Reporter
) -> list[LabelledList]:
    """Score the candidates of every labelled query that has a positive.

    Raises:
        UsageError, RelookError: as `evaluate`; also where relevance is not said by labels.
    """
    needs = {need for step in chain for need in step.reranker.needs}
    query_set = open_queries(config, gallery, needs, config.evaluate.dataset, queries)
    whole = [replace(step, margin=None) for step in chain]
    found: list[LabelledList] = []
    with reporter.bar("calibrate", len(query_set.records), "queries") as bar:
        for start in range(0, len(query_set.records), _BLOCK):
            block = slice(start, min(start + _BLOCK, len(query_set.records)))
            found += _block(gallery, whole, query_set, block)
            bar.advance(block.stop - block.start)
    return found


def _block(
    gallery: OpenedIndex, chain: Sequence[RerankStep], query_set: EvaluationQueries, block: slice
) -> list[LabelledList]:
    queries = query_set.describe(block)
    if not queries.records:
        return []
    numbers = [block.start + number for number in queries.numbers]
    names = [query_set.records[number].id for number in numbers]
    excluded = [frozenset(query_set.excluded(number)) | query_set.outside for number in numbers]
    depth = min(query_set.size, max(_DEPTH, *(step.top for step in chain)))
    candidates = find_candidates(gallery, names, queries.descriptions, depth, excluded, query_set.where)
    found = []
    for number, ranking in zip(numbers, apply_chain(chain, queries.descriptions, candidates, gallery), strict=True):
        positive, label = query_set.groups(number).get("positive"), query_set.records[number].label
        if positive is None or not label:
            raise RelookError(f"query {query_set.file(number)} has no label; calibrate needs labelled queries")
        if not positive:
            continue
        order = np.argsort(ranking.explanation["global_rank"])
        ids = [ranking.ids[row] for row in order]
        found.append(
            LabelledList(
                label,
                np.asarray(ranking.explanation["global_score"][order], np.float32),
                np.array([name in positive for name in ids], np.bool_),
                len(positive),
                {step.name: np.asarray(ranking.explanation[step.name][order], np.float32) for step in chain},
            )
        )
    return found
