"""One query of the embedded approximate store: candidates from the lists, then their exact cosines.

Below `ann_store.py`. Vectors that are in no list yet are compared one by one. A candidate's vector is read from the
records, so scores are those of an exact store, and equal ones go by id.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pipeline.stores.ann.lists import Lists
from pipeline.stores.ann.recall import DEPTHS
from pipeline.stores.ann.records import Records, Rows
from pipeline.stores.exact.search import FlatVectors
from pipeline.types import FloatArray

Queries = npt.NDArray[np.float64]
Answer = tuple[list[str], FloatArray]
Where = Mapping[str, Sequence[str]] | None

# Queries searched at once, while what is kept for them stays small.
_BLOCK = 64
# Candidates beyond the answers, at first: half as many again, and these.
_SPARE = 32
# Where the last candidate may be as near as the last answer, so many times more are looked at.
_MORE = 4
# Filters that are remembered: a bit a row each.
_FILTERS = 16


@dataclass(frozen=True)
class Among:
    """The rows that a query may find.

    Attributes:
        count: how many.
        listed: those in lists, a bit a row, least significant first; None: all.
        unlisted: places of the others in the order of the ids; None: all.
    """

    count: int
    listed: npt.NDArray[np.uint8] | None
    unlisted: npt.NDArray[np.intp] | None


class Snapshot:
    """One state of the records and their lists; made and asked inside `Records.reading` of that state.

    Raises:
        RelookError: a file is damaged.
        MissingListsError: one is not there (any more).
    """

    def __init__(self, records: Records) -> None:
        self._records, self._state, self._count = records, records.state(), records.count()
        self._lists = Lists(records.path.parent, self._state) if self._state.segments else None
        self._filters: dict[str, Among] = {}

    def nearest(self, queries: Queries, top_k: int, where: Where) -> list[Answer]:
        """The nearest of each query [Q, D] of unit length: ids and cosines, descending; equal ones by id."""
        among = self._among(where) if where else self._all
        top_k = min(top_k, among.count)
        if top_k == 0:
            return [([], np.zeros(0, np.float32)) for _ in queries]
        answers: list[Answer] = []
        for start in range(0, len(queries), _BLOCK):
            block = queries[start : start + _BLOCK]
            unlisted = self._unlisted(block, top_k, among)
            answers += self._listed(block, top_k, among, unlisted) if self._lists else unlisted
        return answers

    def _listed(self, queries: Queries, top_k: int, among: Among, unlisted: list[Answer]) -> list[Answer]:
        """The best of what the lists hold and of `unlisted`; all queries visit the lists at once."""
        assert self._lists is not None
        probes = self._probes(top_k, among)
        wanted = top_k + max(top_k // 2, _SPARE)
        found = zip(*self._lists.search(queries.astype(np.float32), wanted, probes, among.listed), strict=True)
        answers = []
        for query, rest, (near, rows) in zip(queries, unlisted, found, strict=True):
            visited, asked = probes, wanted
            while True:
                answer = _merged(self._scored(query, rows[rows >= 0], top_k), rest, top_k)
                if len(answer[0]) < top_k and visited < self._state.lists:
                    visited = self._state.lists  # what a filter leaves may all lie in other lists
                elif rows[-1] >= 0 and near[-1] > answer[1][-1] - self._lists.error:
                    asked *= _MORE  # whatever is behind the last candidate may be as near as the last answer
                else:
                    break
                (near,), (rows,) = self._lists.search(query[None].astype(np.float32), asked, visited, among.listed)
            answers.append(answer)
        return answers

    def _unlisted(self, queries: Queries, top_k: int, among: Among) -> list[Answer]:
        """The best of the rows that are in no list."""
        _, names, vectors = self._waiting
        found = vectors.nearest(queries, top_k, among.unlisted)
        return [([names[row] for row in best], scores) for best, scores in found]

    def _scored(self, query: npt.NDArray[np.float64], candidates: Rows, top_k: int) -> Answer:
        _, names, vectors = self._records.numbered(candidates)
        ((best, scores),) = FlatVectors(vectors, np.arange(len(names))).nearest(query[None], top_k)
        return [names[row] for row in best], scores

    @cached_property
    def _waiting(self) -> tuple[Rows, list[str], FlatVectors]:
        """The rows that are in no list, sorted by id, so that equal scores go by it."""
        rows, names, vectors = self._records.numbered(self._records.rows(self._state.covered + 1))
        return rows, names, FlatVectors(vectors, np.arange(len(names)))

    @cached_property
    def _all(self) -> Among:
        dead = self._records.dead()
        if not len(dead):
            return Among(self._count, None, None)
        alive = np.ones(self._state.covered + 1, np.bool_)
        alive[dead] = False
        return Among(self._count, np.packbits(alive, bitorder="little"), None)

    def _among(self, where: Mapping[str, Sequence[str]]) -> Among:
        key = repr(sorted((name, sorted(values)) for name, values in where.items()))
        if key not in self._filters:
            if len(self._filters) == _FILTERS:
                del self._filters[next(iter(self._filters))]
            rows, waiting = self._records.matching(where), self._waiting[0]
            kept = np.zeros(max(self._state.covered, int(waiting.max(initial=0))) + 1, np.bool_)
            kept[rows] = True
            listed = np.packbits(kept[: self._state.covered + 1], bitorder="little")
            self._filters[key] = Among(len(rows), listed, np.flatnonzero(kept[waiting]))
        return self._filters[key]

    def _probes(self, top_k: int, among: Among) -> int:
        """How many lists to visit. The first k of a share of the rows lie about as deep as the first k / share of all.

        Between and beyond the two depths that were measured, the number grows as a power of the depth.
        """
        depth = top_k * self._count / among.count
        few, many = self._state.probes
        power = math.log(many / few) / math.log(DEPTHS[1] / DEPTHS[0])
        probes: float = few * max(1.0, depth / DEPTHS[0]) ** power
        return math.ceil(min(self._state.lists, probes))


def _merged(one: Answer, other: Answer, top_k: int) -> Answer:
    """The best of two answers without a common id."""
    if not other[0]:
        return one
    both = sorted(zip(-np.concatenate([one[1], other[1]]), [*one[0], *other[0]], strict=True))[:top_k]
    return [name for _, name in both], -np.array([score for score, _ in both], np.float32) + 0.0
