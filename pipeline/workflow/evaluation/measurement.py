"""Ranking the queries of an evaluation, before and after each chain of rerankers, and the seconds that it takes.

Between `query_sets` and the verbs that show figures. Queries are processed in blocks, so that neither feature maps nor
rankings of all of them are in memory at once. The first ones run one at a time, which gives the latency of a query.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from pipeline.evaluate import RankedRelevance, Scores, mark_relevance
from pipeline.rerank import RerankStep, apply_chain
from pipeline.rerank.windows import Windows, windows_of
from pipeline.types import (
    Candidates,
    Description,
    DescriptorSource,
    FloatArray,
    ModelCard,
    Ranking,
    Reranker,
)
from pipeline.workflow.evaluation.curves import RankingCurves
from pipeline.workflow.evaluation.query_sets import EvaluationQueries
from pipeline.workflow.opened_index import OpenedIndex
from pipeline.workflow.progress import Reporter, logger
from pipeline.workflow.queries import find_candidates

# Queries of a block, at most, and places of their rankings, which bound the memory.
_BLOCK = 64
_PLACES = 20_000_000
# Results per query that are kept for reports, and of how many queries.
SHOWN = 10
_SHOWN_QUERIES = 2000


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    Attributes:
        numbers: places of the queries that could be read.
        failed: how many could not.
        before: metrics of the global search.
        after: metrics of each chain.
        shown: the first ids of each query's ranking, before and after each chain; empty for many queries.
        seconds: of all queries, by stage.
        single: seconds of each query that ran alone, by stage, without the first, which opens files.
        pairs: of a query and a candidate that each reranker scored, by its name, all chains together.
        curves: of the global search and of each chain, as `RankingCurves.to_json` has them.
    """

    numbers: list[int]
    failed: int
    before: Scores
    after: list[Scores]
    shown: list[list[list[str]]]
    seconds: Mapping[str, float]
    single: Mapping[str, list[float]]
    pairs: Mapping[str, int]
    curves: list[dict[str, Any] | None]


def measure(
    gallery: OpenedIndex,
    chains: Sequence[Sequence[RerankStep]],
    query_set: EvaluationQueries,
    reporter: Reporter,
    timed: int = 0,
) -> Measurement:
    """Rank all queries and score the rankings.

    Args:
        gallery: what is searched.
        chains: of rerankers, each measured on the same candidates.
        query_set: the queries.
        reporter: told about the progress.
        timed: how many queries run one at a time.

    Raises:
        RelookError: nothing can be scored.
    """
    gallery = _deep_enough(gallery, _depth(query_set, chains))
    clock = _Clock()
    chains = [[clock.timed_step(step) for step in chain] for chain in chains]
    run = _Run(gallery, chains, query_set, clock)
    with reporter.bar("evaluate", len(query_set.records), "queries") as bar:
        for block in _blocks(len(query_set.records), _depth(query_set, chains), timed):
            run.add(block)
            bar.advance(block.stop - block.start)
    after = [query_set.protocol.score_lists(lists) for lists in run.after]
    single = {name: values[1:] for name, values in clock.single.items() if values[1:]}
    seconds = {name: round(value, 3) for name, value in clock.seconds.items()}
    before = query_set.protocol.score(run.before)
    curves = [one.to_json() for one in run.curves]
    return Measurement(run.numbers, run.failed, before, after, run.shown, seconds, single, dict(clock.pairs), curves)


class _Clock:
    """Seconds by stage: of all queries, and of each that runs alone; and the pairs that each reranker scored."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.single: dict[str, list[float]] = defaultdict(list)
        self.pairs: dict[str, int] = defaultdict(int)
        self.alone = False

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        passed = time.monotonic() - started
        self.seconds[stage] += passed
        if self.alone:
            self.single[stage].append(passed)

    def timed_step(self, step: RerankStep) -> RerankStep:
        """The same step of a chain, timed."""
        return replace(step, reranker=_TimedReranker(step.reranker, step.name, self))


@dataclass(frozen=True)
class _TimedReranker:
    """A reranker that adds its seconds and its pairs to a clock."""

    reranker: Reranker
    name: str
    clock: _Clock

    @property
    def needs(self) -> frozenset[str]:
        return self.reranker.needs

    @property
    def windows(self) -> Windows | None:
        return windows_of(self.reranker)

    def check(self, card: ModelCard) -> None:
        self.reranker.check(card)

    def bind(self, card: ModelCard) -> Self:
        return replace(self, reranker=self.reranker.bind(card))

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        self.clock.pairs[self.name] += sum(map(len, candidates.ids))
        with self.clock.time(f"rerank {self.name}"):
            return self.reranker.score(queries, candidates, gallery)


@dataclass
class _Run:
    """Collects the results of blocks of queries."""

    gallery: OpenedIndex
    chains: Sequence[Sequence[RerankStep]]
    query_set: EvaluationQueries
    clock: _Clock
    numbers: list[int] = field(default_factory=list)
    failed: int = 0
    before: list[RankedRelevance] = field(default_factory=list)
    after: list[dict[str, list[RankedRelevance]]] = field(default_factory=list)
    shown: list[list[list[str]]] = field(default_factory=list)
    curves: list[RankingCurves] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.curves = [RankingCurves() for _ in (None, *self.chains)]
        self.after = [{ending: [] for ending in self.query_set.protocol.lists or ("",)} for _ in self.chains]
        records = self.gallery.index.records
        self._labels = {name: record.label for name, record in records.items()} if self._reads_labels else None

    @property
    def _reads_labels(self) -> bool:
        return self.query_set.protocol.reads_labels

    def add(self, block: slice) -> None:
        """Rank the queries of `block` and locate what is relevant."""
        query_set, clock = self.query_set, self.clock
        clock.alone = block.stop - block.start == 1
        with clock.time("read" if query_set.stored else "describe"):
            queries = query_set.describe(block)
        self.failed += len(queries.failed)
        if not queries.records:
            return
        numbers = [block.start + number for number in queries.numbers]
        names = [query_set.records[number].id for number in numbers]
        with clock.time("search"):
            excluded = [frozenset(query_set.excluded(number)) | query_set.outside for number in numbers]
            depth = _depth(query_set, self.chains)
            candidates = find_candidates(self.gallery, names, queries.descriptions, depth, excluded, query_set.where)
        self.numbers += numbers
        rankings = [apply_chain((), queries.descriptions, candidates, self.gallery)]
        self.before += self._located(rankings[0], numbers, self.curves[0])
        for chain, lists, curves in zip(self.chains, self.after, self.curves[1:], strict=True):
            rankings.append(self._rerank(chain, lists, queries.descriptions, candidates, numbers, curves))
        if len(query_set.records) <= _SHOWN_QUERIES:
            heads = [[ranking.ids[:SHOWN] for ranking in found] for found in zip(*rankings, strict=True)]
            self.shown += [[list(ids) for ids in head] for head in heads]

    def _rerank(
        self,
        chain: Sequence[RerankStep],
        lists: dict[str, list[RankedRelevance]],
        descriptions: Sequence[Description],
        candidates: Candidates,
        numbers: Sequence[int],
        curves: RankingCurves,
    ) -> list[Ranking]:
        """Re-rank each list of the protocol, draw that of its headline; returns the rankings of the last one."""
        rankings: list[Ranking] = []
        headline = self.query_set.protocol.headline
        for ending, located in lists.items():
            ignored = self.query_set.protocol.lists.get(ending, ())
            part = self._without(candidates, numbers, ignored) if ignored else candidates
            with self.clock.time("rerank"):
                rankings = apply_chain(chain, descriptions, part, self.gallery)
            located += self._located(rankings, numbers, curves if headline.endswith(ending) else None)
        return rankings

    def _without(self, candidates: Candidates, numbers: Sequence[int], groups: Sequence[str]) -> Candidates:
        ids, scores = [], []
        for number, names, values in zip(numbers, candidates.ids, candidates.scores, strict=True):
            known = self.query_set.groups(number)
            out = {name for group in groups for name in known[group]}
            kept = [row for row, name in enumerate(names) if name not in out]
            ids.append([names[row] for row in kept])
            scores.append(np.asarray(values)[kept])
        return Candidates(candidates.query_ids, ids, scores)

    def _located(
        self, rankings: Sequence[Ranking], numbers: Sequence[int], curves: RankingCurves | None
    ) -> list[RankedRelevance]:
        query_set, found = self.query_set, []
        for ranking, number in zip(rankings, numbers, strict=True):
            one = mark_relevance(ranking, query_set.groups(number), self._labels, query_set.labels(number))
            if curves is not None:
                curves.add(ranking, one)
            found.append(one)
        return found


def _deep_enough(gallery: OpenedIndex, depth: int) -> OpenedIndex:
    """A gallery whose store returns `depth` results: where a service cannot, the exact search of the index."""
    limit = gallery.store.max_results
    if limit is None or depth <= limit:
        return gallery
    kind = gallery.config.store.kind
    logger.warning(
        "the store %s returns at most %d results per query, this protocol ranks %d images: the exact search of the "
        "index is measured instead",
        *(kind, limit, depth),
    )
    own = "csv" if gallery.index.manifest.tables == "csv" else "table"
    return gallery.with_store(own)


def _depth(query_set: EvaluationQueries, chains: Sequence[Sequence[RerankStep]]) -> int:
    """How many candidates are requested."""
    wanted = query_set.protocol.depth or query_set.size
    return max(1, min(query_set.size, max([wanted, *(step.top for chain in chains for step in chain)])))


def _blocks(count: int, depth: int, alone: int) -> Iterator[slice]:
    """The first `alone` queries one at a time, then blocks."""
    alone = min(alone, count)
    yield from (slice(row, row + 1) for row in range(alone))
    step = max(1, min(_BLOCK, _PLACES // depth))
    yield from (slice(row, min(row + step, count)) for row in range(alone, count, step))
