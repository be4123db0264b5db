"""Groups of photos, and the pairs that a map is learnt from: verified ones, and those that follow from them.

Photos of one group that were not verified with each other show the same thing too: A with B and B with C. Such a pair
counts less, since a wrong link anywhere in the group makes it wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.train.loop.task import Rows

# Of a pair that follows from others, beside a verified one of the same support.
_TRANSITIVE = 0.5
# A group gives at most this many pairs that follow: those of a large group would outvote all others.
_MOST = 500


@dataclass(frozen=True)
class Groups:
    """Groups of the photos of a collection, and how sure they are.

    Attributes:
        number: [N] int64, the group of each photo; -1: none.
        pairs: [P, 2] int64, the verified pairs inside of groups.
        support: [P] float64, above 0.
    """

    number: Rows
    pairs: npt.NDArray[np.int64]
    support: npt.NDArray[np.float64]

    @property
    def count(self) -> int:
        """How many groups there are."""
        return int(self.number.max(initial=-1)) + 1

    def without(self, photos: npt.NDArray[np.bool_]) -> Groups:
        """The groups without some of the N photos, under their numbers."""
        number = np.where(photos, -1, self.number)
        inside = (number[self.pairs] >= 0).all(axis=1)
        return Groups(number, self.pairs[inside], self.support[inside])


def weighted_pairs(groups: Groups, half: float, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Pairs [Q, 2] and weights [Q] in (0, 1) that sum, within a group of m photos, to at most m - 1.

    Args:
        groups: of photos.
        half: the support at which a verified pair weighs one half: s / (s + half).
        seed: of the pairs that are drawn where a group has very many.
    """
    verified = groups.support / (groups.support + half)
    of_pair = groups.number[groups.pairs[:, 0]]
    rng = np.random.default_rng(seed)
    rows: list[npt.NDArray[np.int64]] = []
    weights: list[npt.NDArray[np.float64]] = []
    order = np.argsort(of_pair, kind="stable")
    for number, places in zip(*_runs(of_pair, order), strict=True):
        members = np.flatnonzero(groups.number == number)
        pairs, own = groups.pairs[places], verified[places]
        known = set(map(tuple, pairs.tolist()))
        left, right = np.triu_indices(len(members), 1)
        if len(left) > _MOST:
            some = rng.permutation(len(left))[:_MOST]
            left, right = left[some], right[some]
        rest = [pair for pair in zip(members[left].tolist(), members[right].tolist(), strict=True) if pair not in known]
        follow = np.full(len(rest), _TRANSITIVE * float(np.median(own)))
        both = np.concatenate([own, follow])
        rows.append(np.concatenate([pairs, np.array(rest, np.int64).reshape(-1, 2)]))
        weights.append(both * min(1.0, (len(members) - 1) / both.sum()))
    return np.concatenate(rows), np.concatenate(weights)


def _runs(values: Rows, order: Rows) -> tuple[list[int], list[Rows]]:
    """The distinct values in `order`, and the places of each."""
    found, starts = np.unique(values[order], return_index=True)
    return found.tolist(), np.split(order, starts[1:])
