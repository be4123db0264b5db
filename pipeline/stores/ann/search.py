"""Queries of the local ann store: candidates from the lists, then their exact cosines.

Below `store.py`. Vectors that are in no list yet are all compared. A candidate's vector is read from the records, so
scores are those of an exact store, and equal ones are ordered by id. A filter may follow the clusters, as labels do,
and then its nearest rows lie in lists that are far from the query: under a filter all lists are visited.
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
from pipeline.stores.ann.records import RecordDatabase, Rows
from pipeline.stores.exact.search import FlatVectors
from pipeline.types import FloatArray

Queries = npt.NDArray[np.float64]
# Ids and scores of one query, descending.
Nearest = tuple[list[str], FloatArray]

# Queries searched together, while their candidates take little memory.
_BLOCK = 64
# From this number of queries on a batch may be compared with all vectors. Nanoseconds of one core, measured
# (docs/ann.md): of a query by the lists; exactly, to read a stored value once and to multiply it per query.
_BATCH = 32
_LISTS_NS = 2.7e6
_READ_NS = 9.9
_PRODUCT_NS = 0.036
# Candidates beyond the results, at first: half as many again, plus this number.
_SPARE = 32
# Growth of the number of candidates while the last of them may be as near as the last result.
_GROWTH = 4
# Filters that are remembered: one bit per row each, and the vectors of those that select few rows.
_FILTERS = 16
# A filter that selects at most this number of rows compares all of them: their vectors are read once.
_FEW = 1024


@dataclass(frozen=True)
class Selection:
    """The rows that a query may find.

    Attributes:
        count: number of rows.
        listed: those in lists, one bit per row, least significant first; None: all.
        unlisted: positions of the others in the order of the ids; None: all.
        flat: names and vectors of all the rows where they are few, in the order of the ids; None: the lists are used.
        filtered: whether a filter made the selection.
    """

    count: int
    listed: npt.NDArray[np.uint8] | None = None
    unlisted: npt.NDArray[np.intp] | None = None
    flat: tuple[list[str], FlatVectors] | None = None
    filtered: bool = False


class Snapshot:
    """One state of the records and their lists; created and used inside `RecordDatabase.reading` of that state.

    Raises:
        RelookError: a file is damaged.
        MissingListsError: a file is missing.
    """

    def __init__(self, records: RecordDatabase) -> None:
        self._records, self._state, self._count = records, records.state(), records.count()
        self._lists = Lists(records.path.parent, self._state) if self._state.segments else None
        self._filters: dict[str, Selection] = {}

    def nearest(self, queries: Queries, top_k: int, where: Mapping[str, Sequence[str]] | None) -> list[Nearest]:
        """The nearest of each query [Q, D] of unit length: ids and cosines, descending; equal ones by id."""
        selection = self._filtered(where) if where else self._all
        top_k = min(top_k, selection.count)
        if top_k == 0:
            return [([], np.zeros(0, np.float32)) for _ in queries]
        if selection.flat:
            return _named(selection.flat, queries, top_k)
        if self._lists and not selection.filtered and self._exact_is_faster(len(queries)):
            return self._exact(queries, top_k)
        results: list[Nearest] = []
        for start in range(0, len(queries), _BLOCK):
            block = queries[start : start + _BLOCK]
            unlisted = _named(self._unlisted, block, top_k, selection.unlisted)
            results += self._listed(block, top_k, selection, unlisted) if self._lists else unlisted
        return results

    def _listed(self, queries: Queries, top_k: int, selection: Selection, unlisted: list[Nearest]) -> list[Nearest]:
        """The best of the rows in lists and of `unlisted`; the lists are searched for all queries at once."""
        assert self._lists is not None
        probes = self._state.lists if selection.filtered else self._probes(top_k)
        wanted = top_k + max(top_k // 2, _SPARE)
        found = zip(*self._lists.search(queries.astype(np.float32), wanted, probes, selection.listed), strict=True)
        results = []
        for query, rest, (near, rows) in zip(queries, unlisted, found, strict=True):
            visited, candidates = probes, wanted
            while True:
                result = _merged(self._scored(query, rows[rows >= 0], top_k), rest, top_k)
                if len(result[0]) < top_k and visited < self._state.lists:
                    visited = self._state.lists
                elif rows[-1] >= 0 and near[-1] > result[1][-1] - self._lists.error:
                    candidates *= _GROWTH  # a row behind the last candidate may be as near as the last result
                else:
                    break
                (near,), (rows,) = self._lists.search(
                    query[None].astype(np.float32), candidates, visited, selection.listed
                )
            results.append(result)
        return results

    def _scored(self, query: npt.NDArray[np.float64], candidates: Rows, top_k: int) -> Nearest:
        _, names, vectors = self._records.numbered(candidates)
        (result,) = _named((names, FlatVectors(vectors, np.arange(len(names)))), query[None], top_k)
        return result

    def _exact_is_faster(self, queries: int) -> bool:
        if queries < _BATCH:
            return False
        values = self._count * self._records.dimension
        return values * (_READ_NS + queries * _PRODUCT_NS) < queries * _LISTS_NS

    def _exact(self, queries: Queries, top_k: int) -> list[Nearest]:
        """The nearest of a batch, from all vectors, which are in memory while this runs."""
        _, names, vectors = self._records.numbered(self._records.rows())
        return _named((names, FlatVectors(vectors, np.arange(len(names)))), queries, top_k)

    @cached_property
    def _unlisted_rows(self) -> Rows:
        """The rows that are in no list, in the order of the ids."""
        return self._waiting[0]

    @cached_property
    def _unlisted(self) -> tuple[list[str], FlatVectors]:
        _, names, vectors = self._waiting
        return names, FlatVectors(vectors, np.arange(len(names)))

    @cached_property
    def _waiting(self) -> tuple[Rows, list[str], FloatArray]:
        return self._records.numbered(self._records.rows(self._state.covered + 1))

    @cached_property
    def _all(self) -> Selection:
        dead = self._records.dead()
        if not len(dead):
            return Selection(self._count)
        alive = np.ones(self._state.covered + 1, np.bool_)
        alive[dead] = False
        return Selection(self._count, np.packbits(alive, bitorder="little"))

    def _filtered(self, where: Mapping[str, Sequence[str]]) -> Selection:
        key = repr(sorted((name, sorted(values)) for name, values in where.items()))
        if key not in self._filters:
            if len(self._filters) == _FILTERS:
                del self._filters[next(iter(self._filters))]
            self._filters[key] = self._select(self._records.matching(where))
        return self._filters[key]

    def _select(self, rows: Rows) -> Selection:
        if len(rows) <= _FEW:
            _, names, vectors = self._records.numbered(rows)
            return Selection(len(rows), flat=(names, FlatVectors(vectors, np.arange(len(names)))), filtered=True)
        waiting = self._unlisted_rows
        kept = np.zeros(max(self._state.covered, int(waiting.max(initial=0))) + 1, np.bool_)
        kept[rows] = True
        listed = np.packbits(kept[: self._state.covered + 1], bitorder="little")
        return Selection(len(rows), listed, np.flatnonzero(kept[waiting]), filtered=True)

    def _probes(self, top_k: int) -> int:
        """Number of lists to visit: between and beyond the two measured depths it grows as a power of the depth."""
        few, many = self._state.probes
        power = math.log(many / few) / math.log(DEPTHS[1] / DEPTHS[0])
        probes: float = few * max(1.0, top_k / DEPTHS[0]) ** power
        return math.ceil(min(self._state.lists, probes))


def _named(
    flat: tuple[list[str], FlatVectors], queries: Queries, top_k: int, among: npt.NDArray[np.intp] | None = None
) -> list[Nearest]:
    """The best of some vectors, by name."""
    names, vectors = flat
    return [([names[row] for row in rows], scores) for rows, scores in vectors.nearest(queries, top_k, among)]


def _merged(one: Nearest, other: Nearest, top_k: int) -> Nearest:
    """The best of two results without a common id."""
    if not other[0]:
        return one
    both = sorted(zip(-np.concatenate([one[1], other[1]]), [*one[0], *other[0]], strict=True))[:top_k]
    return [name for _, name in both], -np.array([score for score, _ in both], np.float32) + 0.0
