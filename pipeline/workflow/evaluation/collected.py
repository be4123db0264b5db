"""What the rankings of some queries come to before they are scored, in memory and as a plain document.

Filled by `measurement`, block by block. Blocks of one query set that several processes ranked are appended in their
order; every number survives the document exactly, so the figures do not depend on who ranked which block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.evaluate import Guess, RankedRelevance
from pipeline.workflow.evaluation.curves import RankingCurves


@dataclass
class Collected:
    """Results of consecutive blocks of queries.

    Attributes:
        numbers: places of the queries that could be read.
        failed: how many could not.
        before: of the global search.
        after: of each chain, by list of the protocol.
        shown: the first ids of each query's ranking, before and after each chain; empty for many queries.
        curves: of the global search and of each chain.
        seconds: of all queries, by stage.
        single: seconds of each query that ran alone, by stage.
        pairs: of a query and a candidate that each reranker scored, by its name.
    """

    numbers: list[int] = field(default_factory=list)
    failed: int = 0
    before: list[RankedRelevance] = field(default_factory=list)
    after: list[dict[str, list[RankedRelevance]]] = field(default_factory=list)
    shown: list[list[list[str]]] = field(default_factory=list)
    curves: list[RankingCurves] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    single: dict[str, list[float]] = field(default_factory=dict)
    pairs: dict[str, int] = field(default_factory=dict)

    @classmethod
    def nothing(cls, chains: int, lists: Sequence[str]) -> Collected:
        """Of no query yet."""
        after: list[dict[str, list[RankedRelevance]]] = [{name: [] for name in lists} for _ in range(chains)]
        return cls(after=after, curves=[RankingCurves() for _ in range(chains + 1)])

    def append(self, other: Collected) -> None:
        """The results of the blocks that follow."""
        self.numbers += other.numbers
        self.failed += other.failed
        self.before += other.before
        self.shown += other.shown
        for mine, theirs in zip(self.after, other.after, strict=True):
            for name, found in theirs.items():
                mine[name] += found
        for curve, more in zip(self.curves, other.curves, strict=True):
            curve.append(more)
        for name, value in other.seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + value
        for name, values in other.single.items():
            self.single[name] = [*self.single.get(name, ()), *values]
        for name, count in other.pairs.items():
            self.pairs[name] = self.pairs.get(name, 0) + count

    def to_document(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "numbers": self.numbers,
            "failed": self.failed,
            "before": [_plain(one) for one in self.before],
            "after": [{name: [_plain(one) for one in found] for name, found in lists.items()} for lists in self.after],
            "shown": self.shown,
            "curves": [curve.to_document() for curve in self.curves],
            "seconds": self.seconds,
            "single": self.single,
            "pairs": self.pairs,
        }

    @classmethod
    def from_document(cls, values: Mapping[str, Any]) -> Collected:
        """The inverse of `to_document`. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            numbers=[int(number) for number in values["numbers"]],
            failed=int(values["failed"]),
            before=[_relevance(one) for one in values["before"]],
            after=[
                {name: [_relevance(one) for one in found] for name, found in lists.items()} for lists in values["after"]
            ],
            shown=[[list(ids) for ids in head] for head in values["shown"]],
            curves=[RankingCurves.from_document(one) for one in values["curves"]],
            seconds={name: float(value) for name, value in values["seconds"].items()},
            single={name: [float(value) for value in one] for name, one in values["single"].items()},
            pairs={name: int(count) for name, count in values["pairs"].items()},
        )


def _plain(found: RankedRelevance) -> dict[str, Any]:
    return {
        "query": found.query_id,
        "places": {name: np.asarray(places).tolist() for name, places in found.places.items()},
        "sizes": {name: int(size) for name, size in found.sizes.items()},
        "labels": sorted(found.labels),
        "guess": None if found.guess is None else [found.guess.label, float(found.guess.score)],
    }


def _relevance(values: Mapping[str, Any]) -> RankedRelevance:
    guess = values["guess"]
    return RankedRelevance(
        query_id=str(values["query"]),
        places={name: np.array(places, np.intp) for name, places in values["places"].items()},
        sizes={name: int(size) for name, size in values["sizes"].items()},
        labels=frozenset(values["labels"]),
        guess=None if guess is None else Guess(guess[0], float(guess[1])),
    )
