"""From verified pairs to what is learnt from: groups without the refused ones, and doubtful neighbours.

Between mining and learning in `adapt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array

from pipeline.config import AdaptConfig
from pipeline.errors import RelookError
from pipeline.train.adaptation.group_pairs import HALF, Groups
from pipeline.train.loop.task import Rows
from pipeline.train.mining.answers import NO, UNSURE, YES
from pipeline.train.mining.graph import find_groups
from pipeline.workflow.training.adaptation import Material
from pipeline.workflow.training.mining import MinedPairs, warn_unknown

# Support below which a candidate shows something else (docs/matching.md), and one that may be the same from there on.
_DIFFERENT = 4.0
# The support of a pair of which a person says that both photos show the same thing, and against one of which not.
SURE = 1000.0


@dataclass(frozen=True)
class MinedGroups:
    """What teaches.

    Attributes:
        material: for the choice of a map.
        cut: verified pairs that others contradict: they do not join their photos.
        degenerate: pairs whose points lie on a line or on one spot.
        disagreeing: pairs that are near by descriptor, and whose points do not agree: many are of one thing even so.
        vetoed: groups that were refused.
    """

    material: Material
    cut: int
    degenerate: int
    disagreeing: int
    vetoed: int

    @property
    def groups(self) -> Groups:
        """The groups that are left."""
        return self.material.groups


def group_pairs(mined: MinedPairs, settings: AdaptConfig, refused: Sequence[str] = ()) -> MinedGroups:
    """Find the groups of what was compared, and leave out those with a refused image.

    Pairs between two groups do not teach, nor do those that others contradict; a pair of photos of which one is in no
    group does, little by its weight. What a person says of a pair is surer than any match.
    """
    count = len(mined.records)
    signs = read_signs(mined, settings.least)
    support, differs = signs.support, signs.differs
    agrees = support >= settings.least / 2
    found = find_groups(count, mined.pairs[signs.counts], signs.weight[signs.counts])
    bad = _refused_groups(mined, found, refused)
    number = _without(found, bad)
    left, right = number[mined.pairs].T
    inside = (left == right) & (left >= 0)
    refused_pair = np.isin(found[mined.pairs], bad).any(axis=1)
    cut = ~inside & ~refused_pair & (support >= settings.least)
    teaches = agrees & ~cut & (inside | (~refused_pair & (np.minimum(left, right) < 0)))
    groups = Groups(number, mined.pairs[teaches], support[teaches], mined.pairs[mined.answers == NO])
    doubtful = _doubtful(number, mined.pairs[~differs & ~inside])
    degenerate = sum(
        one.degenerate and one.support >= settings.least and not answer
        for one, answer in zip(mined.evidence, mined.answers.tolist(), strict=True)
    )
    material = Material(mined.vectors, groups, doubtful)
    return MinedGroups(material, int(cut.sum()), degenerate, int((differs & ~inside).sum()), len(bad))


@dataclass(frozen=True)
class Signs:
    """What each of P pairs says of its two photos.

    Attributes:
        support: [P] float64, of matches; `SURE` where a person says yes, 0 where no or unsure.
        differs: [P] bool, whether the photos show different things.
        counts: [P] bool, whether the pair says anything: a degenerate one does not, nor one that nobody can tell.
        weight: [P] float64, for one group where it is above 0, against it below.
    """

    support: npt.NDArray[np.float64]
    differs: npt.NDArray[np.bool_]
    counts: npt.NDArray[np.bool_]
    weight: npt.NDArray[np.float64]


def read_signs(mined: MinedPairs, least: float) -> Signs:
    """What pairs say by what was matched and answered; `least`: support from which a pair speaks for one group."""
    same, other, unsure = (mined.answers == answer for answer in (YES, NO, UNSURE))
    support = np.where(same, SURE, np.where(other | unsure, 0.0, mined.support))
    differs = mined.compared & np.array([one.support < _DIFFERENT for one in mined.evidence], np.bool_)
    differs = (differs & ~same & ~unsure) | other
    weight = np.where(other, -SURE, np.where(same, SURE, (support - least) / (support + HALF)))
    return Signs(support, differs, differs | (support > 0), weight)


def check_enough(groups: Groups, settings: AdaptConfig, index: Path) -> None:
    """Raises RelookError where too little was found, with how much there is and how much it takes."""
    if groups.count < settings.groups or len(groups.pairs) < settings.pairs:
        raise RelookError(
            f"{index}: {groups.count} groups and {len(groups.pairs)} verified pairs of photos; adapt needs "
            f"{settings.groups} groups and {settings.pairs} pairs, so nothing was learnt and nothing was written"
        )


def _refused_groups(mined: MinedPairs, number: Rows, refused: Sequence[str]) -> Rows:
    place = mined.place_of
    warn_unknown("veto", [name for name in refused if name not in place])
    found = {int(number[place[name]]) for name in refused if name in place}
    return np.array(sorted(found - {-1}), np.int64)


def _without(number: Rows, groups: Rows) -> Rows:
    """Groups renumbered without some of them."""
    kept = np.setdiff1d(np.arange(number.max(initial=-1) + 1), groups)
    new = np.full(number.max(initial=-1) + 2, -1, np.int64)  # the last one is that of photos without a group
    new[kept] = np.arange(len(kept))
    return new[number]


def _doubtful(number: Rows, pairs: npt.NDArray[np.int64]) -> list[Rows]:
    """Of each photo those that agree with it or with a photo of its group, and are not in that."""
    count, rows = len(number), np.arange(len(number))
    both = np.concatenate([pairs, pairs[:, ::-1]])
    agrees = coo_array((np.ones(len(both), np.int64), (both[:, 0], both[:, 1])), shape=(count, count)).tocsr()
    # A photo without a group is one of its own.
    own = np.where(number >= 0, number, count + rows)
    together = coo_array((np.ones(count, np.int64), (rows, own)), shape=(count, 2 * count)).tocsr()
    # Doubt is mutual: of a photo about a group, and of the group about it.
    found = together @ (together.T @ agrees)
    found = (found + found.T).tocsr()
    return np.split(found.indices.astype(np.int64), found.indptr[1:-1])
