"""Ranking the queries of an evaluation, before and after each chain of rerankers, and the seconds that it takes.

Between `query_sets` and the verbs that show figures. Queries are processed in blocks, so that neither feature maps nor
rankings of all of them are in memory at once. The first ones run one at a time, which gives the latency of a query.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluate import RankedRelevance, Scores, mark_relevance
from pipeline.rerank import RerankStep, apply_chain
from pipeline.rerank.chain import Search
from pipeline.types import (
    Candidates,
    Description,
    FloatArray,
    Ranking,
)
from pipeline.workflow.evaluation.collected import Collected
from pipeline.workflow.evaluation.curves import RankingCurves
from pipeline.workflow.evaluation.query_sets import EvaluationQueries
from pipeline.workflow.evaluation.timing import Clock
from pipeline.workflow.finder import merged_searches
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
    return scored(collect(gallery, chains, query_set, reporter, timed), query_set)


def collect(
    gallery: OpenedIndex,
    chains: Sequence[Sequence[RerankStep]],
    query_set: EvaluationQueries,
    reporter: Reporter,
    timed: int = 0,
    shard: int = 1,
    shards: int = 1,
) -> Collected:
    """Rank the queries of one shard, from 1, of several: a run of whole blocks, whose batches are those of all.

    Other arguments as in `measure`.
    """
    gallery = _deep_enough(gallery, _depth(query_set, chains))
    clock = Clock()
    chains = [[clock.timed_step(step) for step in chain] for chain in chains]
    blocks = list(_blocks(len(query_set.records), _depth(query_set, chains), timed))
    first, last = (len(blocks) * number // shards for number in (shard - 1, shard))
    run = _Run(gallery, chains, query_set, clock)
    with reporter.bar("evaluate", sum(block.stop - block.start for block in blocks[first:last]), "queries") as bar:
        for block in blocks[first:last]:
            run.add(block)
            bar.advance(block.stop - block.start)
    found = run.found
    found.seconds, found.single, found.pairs = dict(clock.seconds), dict(clock.single), dict(clock.pairs)
    return found


def scored(found: Collected, query_set: EvaluationQueries) -> Measurement:
    """The metrics of all queries. Raises RelookError where nothing can be scored."""
    after = [query_set.protocol.score_lists(lists) for lists in found.after]
    single = {name: values[1:] for name, values in found.single.items() if values[1:]}
    seconds = {name: round(value, 3) for name, value in found.seconds.items()}
    before = query_set.protocol.score(found.before)
    curves = [one.to_json() for one in found.curves]
    return Measurement(found.numbers, found.failed, before, after, found.shown, seconds, single, found.pairs, curves)


@dataclass
class _Run:
    """Collects the results of blocks of queries."""

    gallery: OpenedIndex
    chains: Sequence[Sequence[RerankStep]]
    query_set: EvaluationQueries
    clock: Clock

    def __post_init__(self) -> None:
        self.found = Collected.nothing(len(self.chains), tuple(self.query_set.protocol.lists) or ("",))
        records = self.gallery.index.records
        self._labels = {name: record.label for name, record in records.items()} if self._reads_labels else None

    @property
    def _reads_labels(self) -> bool:
        return self.query_set.protocol.reads_labels

    def add(self, block: slice) -> None:
        """Rank the queries of `block` and locate what is relevant."""
        query_set, clock, found = self.query_set, self.clock, self.found
        clock.alone = block.stop - block.start == 1
        with clock.time("read" if query_set.stored else "describe"):
            queries = query_set.describe(block)
        found.failed += len(queries.failed)
        if not queries.records:
            return
        numbers = [block.start + number for number in queries.numbers]
        names = [query_set.records[number].id for number in numbers]
        with clock.time("search"):
            excluded = [frozenset(query_set.excluded(number)) | query_set.outside for number in numbers]
            depth = _depth(query_set, self.chains)
            candidates = find_candidates(self.gallery, names, queries.descriptions, depth, excluded, query_set.where)
        found.numbers += numbers
        rankings = [apply_chain((), queries.descriptions, candidates, self.gallery)]
        found.before += self._located(rankings[0], numbers, found.curves[0])
        for chain, lists, curves in zip(self.chains, found.after, found.curves[1:], strict=True):
            rankings.append(self._rerank(chain, lists, queries.descriptions, candidates, numbers, curves))
        if len(query_set.records) <= _SHOWN_QUERIES:
            heads = [[ranking.ids[:SHOWN] for ranking in one] for one in zip(*rankings, strict=True)]
            found.shown += [[list(ids) for ids in head] for head in heads]

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
                further = self._search_further(part.query_ids, numbers, ignored)
                rankings = apply_chain(chain, descriptions, part, self.gallery, further)
            located += self._located(rankings, numbers, curves if headline.endswith(ending) else None)
        return rankings

    def _search_further(self, names: Sequence[str], numbers: Sequence[int], ignored: Sequence[str]) -> Search:
        """Further searches of these queries, in the same part of the gallery."""
        query_set = self.query_set

        def find(rows: Sequence[int], vectors: FloatArray, count: int) -> Sequence[Sequence[str]]:
            own = [numbers[row] for row in rows]
            excluded = [frozenset(query_set.excluded(number)) | query_set.outside for number in own]
            described, asked = [Description(vector) for vector in vectors], [names[row] for row in rows]
            found = find_candidates(self.gallery, asked, described, count, excluded, query_set.where)
            return self._without(found, own, ignored).ids

        return merged_searches(find)

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
