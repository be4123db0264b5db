"""From verified pairs to what is learnt from: groups without the refused ones, hard negatives, doubtful neighbours.

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
from pipeline.train.mining.graph import find_groups
from pipeline.workflow.progress import logger
from pipeline.workflow.training.adaptation import Material
from pipeline.workflow.training.mining import MinedPairs

# Support below which a candidate shows something else (docs/matching.md), and one that may be the same from there on.
_DIFFERENT = 4.0
# Vetoed ids without an image that are named one by one.
_NAMED = 3


@dataclass(frozen=True)
class MinedGroups:
    """What teaches.

    Attributes:
        material: for the choice of a map.
        cut: verified pairs that others contradict: they do not join their photos.
        degenerate: pairs whose points lie on a line or on one spot.
        negatives: pairs that are near by descriptor and show different things.
        vetoed: groups that were refused.
    """

    material: Material
    cut: int
    degenerate: int
    negatives: int
    vetoed: int

    @property
    def groups(self) -> Groups:
        """The groups that are left."""
        return self.material.groups


def group_pairs(mined: MinedPairs, settings: AdaptConfig, refused: Sequence[str] = ()) -> MinedGroups:
    """Find the groups of what was compared, and leave out those with a refused image.

    Pairs between two groups do not teach, nor do those that others contradict; a pair of photos of which one is in no
    group does, little by its weight.
    """
    count, support = len(mined.records), mined.support
    agrees = support >= settings.least / 2
    differs = np.array([one.support < _DIFFERENT for one in mined.evidence], np.bool_)
    compared = differs | (support > 0)  # a degenerate pair says nothing
    weight = (support - settings.least) / (support + HALF)
    found = find_groups(count, mined.pairs[compared], weight[compared])
    bad = _refused_groups(mined, found, refused)
    number = _without(found, bad)
    left, right = number[mined.pairs].T
    inside = (left == right) & (left >= 0)
    refused_pair = np.isin(found[mined.pairs], bad).any(axis=1)
    cut = ~inside & ~refused_pair & (support >= settings.least)
    teaches = agrees & ~cut & (inside | (~refused_pair & (np.minimum(left, right) < 0)))
    groups = Groups(number, mined.pairs[teaches], support[teaches])
    negatives = _by_photo(count, mined, differs & ~inside)
    unsure = _doubtful(number, mined.pairs[~differs & ~inside])
    degenerate = sum(one.degenerate and one.support >= settings.least for one in mined.evidence)
    material = Material(mined.vectors, groups, negatives, unsure)
    return MinedGroups(material, int(cut.sum()), degenerate, int((differs & ~inside).sum()), len(bad))


def check_enough(groups: Groups, settings: AdaptConfig, index: Path) -> None:
    """Raises RelookError where too little was found, with how much there is and how much it takes."""
    if groups.count < settings.groups or len(groups.pairs) < settings.pairs:
        raise RelookError(
            f"{index}: {groups.count} groups and {len(groups.pairs)} verified pairs of photos; adapt needs "
            f"{settings.groups} groups and {settings.pairs} pairs, so nothing was learnt and nothing was written"
        )


def _refused_groups(mined: MinedPairs, number: Rows, refused: Sequence[str]) -> Rows:
    place = mined.place_of
    unknown = [name for name in refused if name not in place]
    for name in unknown[:_NAMED]:
        logger.warning("veto: the index has no image %r", name)
    if len(unknown) > _NAMED:
        logger.warning("veto: the index has no image for %d lines", len(unknown))
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


def _by_photo(count: int, mined: MinedPairs, chosen: npt.NDArray[np.bool_]) -> list[Rows]:
    """Of each photo the other ends of chosen pairs, the nearest first."""
    places = np.flatnonzero(chosen)
    both = np.concatenate([mined.pairs[places], mined.pairs[places][:, ::-1]])
    nearness = np.tile(mined.similarity[places], 2)
    order = np.lexsort((-nearness, both[:, 0]))
    starts = np.searchsorted(both[order, 0], np.arange(1, count))
    return [np.asarray(part, np.int64) for part in np.split(both[order, 1], starts)]
