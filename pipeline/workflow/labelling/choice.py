"""Which pair of photos a person should be shown: the one whose answer is expected to move most pairs of photos.

Pairs that were compared make groups, as in `adapt`, and so do answers. Between two groups of m and n photos a yes puts
m n pairs into one group, so a pair between them is worth p m n, where p is how likely a yes is. Inside of a group only
the strongest ties that hold it together are worth a question: a no to one divides the group into m and n photos, and
(1 - p) m n is what it is worth. A pair whose answer follows from others is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from pipeline.train.loop.task import Rows
from pipeline.train.mining.answers import NO, YES
from pipeline.train.mining.graph import find_groups, number_groups
from pipeline.workflow.training.mined_groups import read_signs
from pipeline.workflow.training.mining import MinedPairs

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """Pairs in the order in which they are shown.

    Attributes:
        order: numbers of pairs that are not decided, those that are worth most first.
        worth: [P] float64, how many pairs of photos the answer is expected to move; 0 where it is decided.
        number: [N] int64, the group of each photo so far; -1: none.
    """

    order: Rows
    worth: Values
    number: Rows


def choose_pairs(mined: MinedPairs, least: float) -> Choice:
    """The order of the pairs of a collection.

    Args:
        mined: what was compared, and what was answered; a pair that was not compared has no evidence.
        least: support of a pair that speaks for one group, as `adapt.least`.
    """
    signs = read_signs(mined, least)
    number = find_groups(len(mined.records), mined.pairs[signs.counts], signs.weight[signs.counts])
    own = _own_group(number)
    sizes = np.bincount(own)
    left, right = mined.pairs.T
    chance = likely(mined, least)
    inside = own[left] == own[right]
    worth = np.where(inside, 0.0, chance * sizes[own[left]] * sizes[own[right]])
    for pair, (m, n) in _ties(own, mined.pairs, chance, inside):
        worth[pair] = (1 - chance[pair]) * m * n
    worth[_decided(mined, own)] = 0.0
    order = np.lexsort((-mined.similarity, -worth))
    return Choice(order[worth[order] > 0], worth, number)


def likely(mined: MinedPairs, least: float) -> Values:
    """[P], how likely a yes is: (s + c) / (s + c + least) for support s and cosine c; c where the pair says nothing.

    A rough figure; only the order of pairs follows from it.
    """
    cosine = mined.similarity.astype(np.float64).clip(1e-3, 1)
    known = mined.support + cosine
    chance = np.where(mined.compared & read_signs(mined, least).counts, known / (known + least), cosine)
    return np.where(mined.answers == YES, 1.0, chance).clip(1e-6, 1 - 1e-6)


def _own_group(number: Rows) -> Rows:
    """[N], of each photo its group; a photo without one is a group of its own."""
    alone = np.flatnonzero(number < 0)
    own = number.copy()
    own[alone] = number.max(initial=-1) + 1 + np.arange(len(alone))
    return own


def _decided(mined: MinedPairs, own: Rows) -> npt.NDArray[np.bool_]:
    """[P], whether a pair is answered, or its answer follows from others: yes by a chain of yes, no between groups."""
    left, right = mined.pairs.T
    count = len(mined.records)
    same = number_groups(count, mined.pairs[mined.answers == YES])
    chained = (same[left] == same[right]) & (same[left] >= 0)
    between = np.sort(own[mined.pairs], axis=1)
    code = between[:, 0] * (count + 1) + between[:, 1]
    apart = np.isin(code, code[(mined.answers == NO) & (between[:, 0] != between[:, 1])])
    return np.asarray((mined.answers != "") | chained | apart)


def _ties(
    own: Rows, pairs: npt.NDArray[np.int64], chance: Values, inside: npt.NDArray[np.bool_]
) -> Iterator[tuple[int, tuple[int, int]]]:
    """Pairs of the strongest trees through the groups, and how many photos each has on its two sides."""
    numbers = np.flatnonzero(inside)
    if not len(numbers):
        return
    count, sizes = len(own), np.bincount(own)
    left, right = pairs[numbers].T
    tree = minimum_spanning_tree(coo_array((1 / chance[numbers], (left, right)), shape=(count, count))).tocoo()
    of_pair = dict(zip(map(tuple, pairs[numbers].tolist()), numbers.tolist(), strict=True))
    # One more node, joined to a photo of each group, so that one walk visits all of them.
    roots = left[np.unique(own[left], return_index=True)[1]]
    ends = np.concatenate([tree.coords[0], roots]), np.concatenate([tree.coords[1], np.full(len(roots), count)])
    forest = coo_array((np.ones(len(ends[0])), ends), shape=(count + 1, count + 1)).tocsr()
    order, parent = breadth_first_order(forest, count, directed=False)
    below = np.ones(count + 1, np.int64)
    for photo in order[:0:-1].tolist():
        above, part = int(parent[photo]), int(below[photo])
        below[above] += part
        if above != count:
            yield of_pair[min(photo, above), max(photo, above)], (part, int(sizes[own[photo]]) - part)
