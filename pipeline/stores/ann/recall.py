"""How many inverted lists a query has to visit, measured on the store's own vectors.

Called by `maintenance.py`. How well lists keep neighbours together depends on the collection: so the recall is a
setting, and the number of probes follows. For a sample of stored vectors the true nearest others are computed; the list
of each has a position in the order in which the query visits the lists, and these positions give the recall of any
number of probes.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pipeline.stores.ann.lists import Lists, ListsState
from pipeline.stores.ann.records import RecordDatabase, Rows
from pipeline.types import FloatArray

# The depths whose recall is measured, and the number of queries. The second says how the number of probes grows with
# the depth.
DEPTHS = (100, 1000)
_QUERIES = 200
# Of the deeper neighbours every tenth is used.
_EVERY = 10


def measured(records: RecordDatabase, state: ListsState, recall: float) -> ListsState:
    """The state with the fewest probes that reach `recall` at each depth, and the recall that they reach."""
    lists = Lists(records.path.parent, state)
    rows = records.rows()
    rows = rows[rows <= state.covered]
    rows = np.sort(np.random.default_rng(0).choice(rows, min(_QUERIES, len(rows)), replace=False))
    queries = records.vectors(rows)
    order = lists.order(queries)
    truth = _neighbours(records, rows, queries, state.covered)
    near = truth[:, : DEPTHS[0]]
    few, many = (_fewest(_places(records, lists, order, some), recall) for some in (near, truth[:, ::_EVERY]))
    _, found = lists.search(queries, DEPTHS[0] * 3 // 2, few, None)
    hits = sum(int(np.isin(one[one >= 0], other).sum()) for one, other in zip(near, found, strict=True))
    reached = hits / max(1, int((near >= 0).sum()))
    return state.model_copy(update={"probes": (few, max(few, many)), "recall": reached, "measured": records.count()})


def _fewest(places: Rows, recall: float) -> int:
    """The fewest probes after which `recall` of what lies at `places` is found."""
    return int(np.sort(places)[math.ceil(recall * len(places)) - 1]) + 1 if len(places) else 1


def _places(records: RecordDatabase, lists: Lists, order: Rows, truth: Rows) -> Rows:
    """Position of the list of each of `truth` [Q, n] in the `order` [Q, lists] in which lists are visited; flat."""
    rows, _, vectors = records.numbered(truth[truth >= 0])
    by_row = np.argsort(rows)
    list_of = lists.assigned(vectors)[by_row]
    place = np.argsort(order, axis=1)
    query, column = np.nonzero(truth >= 0)
    return place[query, list_of[np.searchsorted(rows[by_row], truth[query, column])]]


def _neighbours(records: RecordDatabase, rows: Rows, queries: FloatArray, last: int) -> Rows:
    """[Q, deepest] rows up to `last`, nearest first, without the query's own; -1 where there are fewer."""
    depth = max(DEPTHS)
    best = np.full((len(queries), depth), -np.inf, np.float32)
    names = np.full((len(queries), depth), -1, np.int64)
    for numbers, vectors in records.stream(0, last):
        scores = queries @ vectors.T
        scores[rows[:, None] == numbers] = -np.inf
        best = np.concatenate([best, scores], axis=1)
        names = np.concatenate([names, np.broadcast_to(numbers, (len(rows), len(numbers)))], axis=1)
        best, names = _first(best, names, np.argpartition(-best, depth - 1, axis=1)[:, :depth])
    best, names = _first(best, names, np.argsort(-best, axis=1, kind="stable"))
    names[best == -np.inf] = -1
    return names


def _first(best: FloatArray, names: Rows, order: npt.NDArray[np.intp]) -> tuple[FloatArray, Rows]:
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(names, order, axis=1)
