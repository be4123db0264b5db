"""Ranking the queries of a task, and what it costs: judged rankings before and after each second look, and seconds.

Between `tasks` and the verbs that show figures. Queries go through in blocks, so that neither maps nor rankings of all
of them are held at once. The first ones go alone: their seconds are what a single query takes.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from pipeline.evaluate import RankedRelevance, Scores, rank_relevance
from pipeline.rerank import RerankStep, apply_chain
from pipeline.types import (
    Candidates,
    Description,
    DescriptorSource,
    FloatArray,
    ModelCard,
    Ranking,
    Reranker,
)
from pipeline.workflow.evaluation.tasks import Task
from pipeline.workflow.gallery import Gallery
from pipeline.workflow.progress import Reporter
from pipeline.workflow.queries import find_candidates

# Queries that are looked at together, at most, and places of their rankings, which bound the memory.
_BLOCK = 64
_PLACES = 20_000_000
# The first answers that are kept to be shown, and of how many queries.
SHOWN = 10
_SHOWN_QUERIES = 2000


@dataclass(frozen=True)
class Measurement:
    """What came of a task.

    Attributes:
        numbers: of the queries that could be read, in the task.
        failed: how many could not.
        before: metrics of the global search.
        after: metrics of each chain.
        shown: the first ids of each query's ranking, before and after each chain; empty for very many queries.
        seconds: in all, by stage.
        single: seconds of each query that went alone, by stage, without the first, which opens files.
    """

    numbers: list[int]
    failed: int
    before: Scores
    after: list[Scores]
    shown: list[list[list[str]]]
    seconds: Mapping[str, float]
    single: Mapping[str, list[float]]


def measure(
    gallery: Gallery, chains: Sequence[Sequence[RerankStep]], task: Task, reporter: Reporter, timed: int = 0
) -> Measurement:
    """Rank and judge.

    Args:
        gallery: what is searched.
        chains: second looks, each measured on the same candidates.
        task: what is asked.
        reporter: told about the progress.
        timed: how many queries go alone.

    Raises:
        RelookError: nothing can be scored.
    """
    clock = _Clock()
    chains = [[clock.timed_step(step) for step in chain] for chain in chains]
    run = _Run(gallery, chains, task, clock)
    with reporter.bar("evaluate", len(task.records), "queries") as bar:
        for block in _blocks(len(task.records), _depth(task, chains), timed):
            run.add(block)
            bar.advance(block.stop - block.start)
    after = [task.protocol.score_lists(lists) for lists in run.after]
    single = {name: values[1:] for name, values in clock.single.items() if values[1:]}
    seconds = {name: round(value, 3) for name, value in clock.seconds.items()}
    before = task.protocol.score(run.before)
    return Measurement(run.numbers, run.failed, before, after, run.shown, seconds, single)


class _Clock:
    """Seconds by stage: of all queries, and of each that goes alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.single: dict[str, list[float]] = defaultdict(list)
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
        """The same link of a chain, timed."""
        return replace(step, reranker=_Watched(step.reranker, step.name, self))


@dataclass(frozen=True)
class _Watched:
    """A reranker whose time is taken."""

    reranker: Reranker
    name: str
    clock: _Clock

    @property
    def needs(self) -> frozenset[str]:
        return self.reranker.needs

    def check(self, card: ModelCard) -> None:
        self.reranker.check(card)

    def bind(self, card: ModelCard) -> Self:
        return replace(self, reranker=self.reranker.bind(card))

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        with self.clock.time(f"rerank {self.name}"):
            return self.reranker.score(queries, candidates, gallery)


@dataclass
class _Run:
    """Collects what blocks of queries bring."""

    gallery: Gallery
    chains: Sequence[Sequence[RerankStep]]
    task: Task
    clock: _Clock
    numbers: list[int] = field(default_factory=list)
    failed: int = 0
    before: list[RankedRelevance] = field(default_factory=list)
    after: list[dict[str, list[RankedRelevance]]] = field(default_factory=list)
    shown: list[list[list[str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.after = [{ending: [] for ending in self.task.protocol.lists or ("",)} for _ in self.chains]
        records = self.gallery.index.records
        self._labels = {name: record.label for name, record in records.items()} if self._reads_labels else None

    @property
    def _reads_labels(self) -> bool:
        return self.task.protocol.reads_labels

    def add(self, block: slice) -> None:
        """Rank and judge the queries of `block`."""
        task, clock = self.task, self.clock
        clock.alone = block.stop - block.start == 1
        with clock.time("read" if task.reads else "describe"):
            asked = task.describe(block)
        self.failed += len(asked.failed)
        if not asked.records:
            return
        numbers = [block.start + number for number in asked.numbers]
        names = [task.records[number].id for number in numbers]
        with clock.time("search"):
            excluded = [frozenset(task.excluded(number)) | task.outside for number in numbers]
            depth = _depth(task, self.chains)
            candidates = find_candidates(self.gallery, names, asked.descriptions, depth, excluded, task.where)
        self.numbers += numbers
        rankings = [apply_chain((), asked.descriptions, candidates, self.gallery)]
        self.before += self._judged(rankings[0], numbers)
        for chain, lists in zip(self.chains, self.after, strict=True):
            rankings.append(self._rerank(chain, lists, asked.descriptions, candidates, numbers))
        if len(task.records) <= _SHOWN_QUERIES:
            heads = [[ranking.ids[:SHOWN] for ranking in found] for found in zip(*rankings, strict=True)]
            self.shown += [[list(ids) for ids in head] for head in heads]

    def _rerank(
        self,
        chain: Sequence[RerankStep],
        lists: dict[str, list[RankedRelevance]],
        descriptions: Sequence[Description],
        candidates: Candidates,
        numbers: Sequence[int],
    ) -> list[Ranking]:
        """The last list's rankings: with one list there is no other."""
        rankings: list[Ranking] = []
        for ending, judged in lists.items():
            ignored = self.task.protocol.lists.get(ending, ())
            part = self._without(candidates, numbers, ignored) if ignored else candidates
            with self.clock.time("rerank"):
                rankings = apply_chain(chain, descriptions, part, self.gallery)
            judged += self._judged(rankings, numbers)
        return rankings

    def _without(self, candidates: Candidates, numbers: Sequence[int], groups: Sequence[str]) -> Candidates:
        ids, scores = [], []
        for number, names, values in zip(numbers, candidates.ids, candidates.scores, strict=True):
            known = self.task.groups(number)
            out = {name for group in groups for name in known[group]}
            kept = [row for row, name in enumerate(names) if name not in out]
            ids.append([names[row] for row in kept])
            scores.append(np.asarray(values)[kept])
        return Candidates(candidates.query_ids, ids, scores)

    def _judged(self, rankings: Sequence[Ranking], numbers: Sequence[int]) -> list[RankedRelevance]:
        task = self.task
        return [
            rank_relevance(ranking, task.groups(number), self._labels, task.labels(number))
            for ranking, number in zip(rankings, numbers, strict=True)
        ]


def _depth(task: Task, chains: Sequence[Sequence[RerankStep]]) -> int:
    """How many answers are asked for."""
    wanted = task.protocol.depth or task.size
    return max(1, min(task.size, max([wanted, *(step.top for chain in chains for step in chain)])))


def _blocks(count: int, depth: int, alone: int) -> Iterator[slice]:
    """The first `alone` queries one by one, then blocks."""
    alone = min(alone, count)
    yield from (slice(row, row + 1) for row in range(alone))
    step = max(1, min(_BLOCK, _PLACES // depth))
    yield from (slice(row, min(row + step, count)) for row in range(alone, count, step))
