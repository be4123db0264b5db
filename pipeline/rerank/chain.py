"""A chain of rerankers over the candidates of many queries.

Called by search and evaluate. Each link looks at the head of the list that the link before it left, fuses its scores
with the ones that the list had, and sorts that head again; what is behind the head stays where it was. Scores are
fused as AMES does it (Suma et al., ECCV 2024, section 4).

The head is `top` candidates. With a `margin` it ends before the first candidate whose score is more than the margin
below that of the second one: a long way behind the leaders nothing changes. (Below the second, because the first is
often a near copy of the query, and no measure of the others.) What is not scored stays behind, and its fused score is
the one that it would have with the lowest score that the reranker gave: the list's scores never rise.

A reranker may want further searches, such as that of an expanded query: what they find is scored with the head. An
image that was no candidate of the store has its cosine with the query as its score until then, and counts behind the
candidates in "global_rank".

A reranker of lists may say `windows`. Then a head that is longer than one of them is scored window by window, and each
is sorted by the fused scores before the next: what a candidate had before the link moves with it, its place is the
one that the last of its windows gave it, and its score is at most that of the candidate before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.rerank.calibration import Calibration
from pipeline.rerank.windows import windows_of
from pipeline.types import (
    Candidates,
    Description,
    DescriptorSource,
    FloatArray,
    FurtherSearch,
    Ranking,
    Reranker,
    searches_further,
)

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


Search = Callable[[Sequence[FurtherSearch]], list[list[str]]]
"""The ids that further searches find, one list per query: nearest first, and only images that it may rank."""


def apply_chain(
    chain: Sequence[RerankStep],
    queries: Sequence[Description],
    candidates: Candidates,
    gallery: DescriptorSource,
    search: Search | None = None,
) -> list[Ranking]:
    """Rank the candidates of every query; an empty chain keeps the global order.

    Args:
        chain: applied in order.
        queries: one description per query, with locals where a reranker needs them.
        candidates: of the store.
        gallery: where candidates' descriptors are read.
        search: for rerankers that search further; None: they score the candidates that there are.
    """
    lists = [
        _List(ids, np.asarray(values, np.float32), query.vector)
        for ids, values, query in zip(candidates.ids, candidates.scores, queries, strict=True)
    ]
    for step in chain:
        depths = [step.depth(one.scores) for one in lists]
        if search is not None and searches_further(step.reranker):
            heads = [(one, slice(0, depth)) for one, depth in zip(lists, depths, strict=True)]
            wanted = step.reranker.further_searches(queries, _parts(candidates.query_ids, heads), gallery)
            found = search([replace(one, count=one.count or step.top) for one in wanted])
            depths = [one.join(depth, ids, gallery) for one, depth, ids in zip(lists, depths, found, strict=True)]
        _sort_heads(step, queries, candidates, lists, depths, gallery)
    return [one.ranking(name) for one, name in zip(lists, candidates.query_ids, strict=True)]


class _List:
    """The list of one query on its way through a chain.

    Args:
        ids: of the K candidates of the store; images of further searches are behind them.
        similarity: [K] float32, cosines with the query.
        query: [D] float32, its global descriptor.

    Attributes:
        order, scores: the rows of `ids` in the order of the list, and their scores there.
    """

    def __init__(self, ids: Sequence[str], similarity: FloatArray, query: FloatArray) -> None:
        self._ids, self._similarity, self._query = ids, similarity, query
        self._seen: dict[str, FloatArray] = {}
        self._before: dict[str, Rows] = {}  # the order that each link was given
        self._own: FloatArray = np.zeros(0, np.float32)  # scores of the link at work, in the order of the head
        self.order: Rows = np.arange(len(ids))
        self.scores = np.array(similarity)

    def ids(self, window: slice) -> list[str]:
        """The ids of a part of the list."""
        return [self._ids[row] for row in self.order[window]]

    def earlier(self, window: slice) -> dict[str, FloatArray]:
        """What each reranker before gave a part of the list."""
        return {name: values[self.order[window]] for name, values in self._seen.items()}

    def join(self, depth: int, found: Sequence[str], gallery: DescriptorSource) -> int:
        """Put what was found behind the first `depth`, ahead of the rest; returns how long the head is then."""
        place = {self._ids[row]: place for place, row in enumerate(self.order)}
        behind = np.array(sorted({place[name] for name in found if place.get(name, 0) >= depth}), np.int64)
        new = [name for name in dict.fromkeys(found) if name not in place]
        values = gallery.globals(new) @ self._query if new else np.zeros(0, np.float32)
        best = np.argsort(-values, kind="stable")
        new, values = [new[row] for row in best], np.asarray(values[best], np.float32)
        rest = np.setdiff1d(np.arange(depth, len(self.order)), behind)
        rows = len(self._ids) + np.arange(len(new))
        self.order = np.concatenate([self.order[:depth], self.order[behind], rows, self.order[rest]])
        self.scores = np.concatenate([self.scores[:depth], self.scores[behind], values, self.scores[rest]])
        if new:
            self._ids, self._similarity = [*self._ids, *new], np.concatenate([self._similarity, values])
            self._seen = {
                name: np.concatenate([seen, np.full(len(new), np.nan, np.float32)]) for name, seen in self._seen.items()
            }
        return depth + len(behind) + len(new)

    def begin(self, step: RerankStep, depth: int) -> None:
        """A link is about to score the first `depth`."""
        self._before[step.name] = self.order.copy()
        self._own = np.zeros(depth, np.float32)

    def sort(self, step: RerankStep, window: slice, reranked: FloatArray) -> None:
        """Sort a window of the head, which the link has scored `reranked`, by the fused scores."""
        self._own[window] = reranked
        place = np.argsort(-step.fused(self.scores[window], reranked), kind="stable")
        for values in (self.order, self.scores, self._own):
            values[window] = values[window][place]

    def end(self, step: RerankStep) -> None:
        """The link has scored the whole head; the scores are the fused ones from now on."""
        self._seen[step.name] = _spread(self._own, self.order[: len(self._own)], len(self.order))
        self.scores = step.fused(self.scores, self._own)
        head = slice(len(self._own))
        self.scores[head] = np.minimum.accumulate(self.scores[head])  # other windows may have scored higher

    def ranking(self, query_id: str) -> Ranking:
        """The list as a result."""
        explanation: dict[str, npt.NDArray[Any]] = {
            "global_rank": self.order + 1,
            "global_score": self._similarity[self.order],
        }
        explanation |= {name: values[self.order] for name, values in self._seen.items()}
        places = {name: self._places(before) for name, before in self._before.items()}
        return Ranking(query_id, self.ids(slice(None)), self.scores, explanation, places)

    def _places(self, before: Rows) -> Rows:
        """[K] where each image of the list was in an earlier order; behind all where it was not there."""
        place = np.full(len(self.order), len(self.order), np.int64)
        place[before] = np.arange(len(before))
        return place[self.order]


def _sort_heads(
    step: RerankStep,
    queries: Sequence[Description],
    candidates: Candidates,
    lists: Sequence[_List],
    depths: Sequence[int],
    gallery: DescriptorSource,
) -> None:
    """Have a link score the first `depths` of each list, window by window where it says windows, and sort them."""
    windows = windows_of(step.reranker)
    passes = [[slice(0, depth)] if windows is None else windows.passes(depth) for depth in depths]
    for one, depth in zip(lists, depths, strict=True):
        one.begin(step, depth)
    for turn in range(max(map(len, passes), default=0)):
        now = [(number, windows[turn]) for number, windows in enumerate(passes) if turn < len(windows)]
        names = [candidates.query_ids[number] for number, _ in now]
        part = _parts(names, [(lists[number], window) for number, window in now])
        found = step.reranker.score([queries[number] for number, _ in now], part, gallery)
        for (number, window), reranked in zip(now, found, strict=True):
            lists[number].sort(step, window, reranked)
    for one in lists:
        one.end(step)


def fuse(similarity: _Scores, reranked: _Scores, weight: float) -> FloatArray:
    """Both [K]; `weight` in [0, 1] is that of `similarity`: 1 keeps the old order, 0 trusts the reranker alone."""
    return np.asarray(weight * similarity + (1 - weight) * reranked, dtype=np.float32)


def _parts(query_ids: Sequence[str], parts: Sequence[tuple[_List, slice]]) -> Candidates:
    """A part of each list, with what earlier links gave it."""
    earlier = [one.earlier(window) for one, window in parts]
    return Candidates(
        query_ids,
        [one.ids(window) for one, window in parts],
        [one.scores[window] for one, window in parts],
        {name: [seen[name] for seen in earlier] for name in (earlier[0] if earlier else ())},
    )


def _spread(values: FloatArray, rows: np.ndarray, size: int) -> FloatArray:
    """`values` at `rows` of an array of `size`, NaN elsewhere: the reranker did not look there."""
    spread = np.full(size, np.nan, dtype=np.float32)
    spread[rows] = values
    return spread
