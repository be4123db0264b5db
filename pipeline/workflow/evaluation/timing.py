"""The clock of an evaluation: seconds by stage, and the seconds and pairs of each reranker.

Beside `measurement`, which runs the stages.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self

from pipeline.rerank import RerankStep
from pipeline.rerank.windows import Windows, windows_of
from pipeline.types import (
    Candidates,
    Description,
    DescriptorSource,
    FloatArray,
    FurtherSearch,
    ModelCard,
    Reranker,
    SearchingReranker,
    searches_further,
)


class Clock:
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
        reranker = step.reranker
        if searches_further(reranker):
            return replace(step, reranker=_TimedSearchingReranker(reranker, step.name, self))
        return replace(step, reranker=_TimedReranker(reranker, step.name, self))


@dataclass(frozen=True)
class _TimedReranker:
    """A reranker that adds its seconds and its pairs to a clock."""

    reranker: Reranker
    name: str
    clock: Clock

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


@dataclass(frozen=True)
class _TimedSearchingReranker(_TimedReranker):
    """The same, of one that searches further."""

    reranker: SearchingReranker

    def further_searches(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FurtherSearch]:
        return self.reranker.further_searches(queries, candidates, gallery)
