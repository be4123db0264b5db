"""What `adapt` learns from: groups of photos, and the pairs of photos that were verified."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.train.loop.task import Rows

# The support at which a verified pair weighs one half.
HALF = 30.0


@dataclass(frozen=True)
class Groups:
    """Groups of the photos of a collection, and the pairs that teach.

    A pair of photos that are in no group, or one of which is in none, teaches too. Pairs of a group that were not
    verified do not: photos of two things that share a detail are the most frequent among them.

    Attributes:
        number: [N] int64, the group of each photo; -1: none.
        pairs: [P, 2] int64, verified pairs.
        support: [P] float64, above 0.
        denied: [Q, 2] int64, pairs of which a person says that they show different things.
    """

    number: Rows
    pairs: npt.NDArray[np.int64]
    support: npt.NDArray[np.float64]
    denied: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))

    @property
    def count(self) -> int:
        """How many groups there are."""
        return int(self.number.max(initial=-1)) + 1

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        """[P], whether both photos of a pair are in one group."""
        left, right = self.number[self.pairs].T
        return np.asarray((left == right) & (left >= 0))

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """[P], of pairs, in (0, 1): s / (s + 30) for a support of s."""
        return self.support / (self.support + HALF)

    def without(self, photos: npt.NDArray[np.bool_]) -> Groups:
        """The groups and pairs without some of the N photos, under their numbers."""
        left, denied = (~photos[pairs].any(axis=1) for pairs in (self.pairs, self.denied))
        number = np.where(photos, -1, self.number)
        return Groups(number, self.pairs[left], self.support[left], self.denied[denied])
