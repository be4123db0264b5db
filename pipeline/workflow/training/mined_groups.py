"""From verified pairs to what is learnt from: groups without the refused ones, hard negatives, doubtful neighbours.

Between mining and learning in `adapt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.config import AdaptConfig
from pipeline.errors import RelookError
from pipeline.train.adaptation.group_pairs import Groups
from pipeline.train.loop.task import Rows
from pipeline.train.mining.graph import find_groups, number_groups
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
        cut: weak bridges that were cut.
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
    """Build the graph of sure pairs, cut its weak bridges, and leave out groups with a refused image."""
    count, support = len(mined.records), mined.support
    edges = support >= settings.least
    number, kept = find_groups(count, mined.pairs[edges], support[edges], settings.sure)
    inside = np.flatnonzero(edges)[kept]
    pairs = mined.pairs[inside]
    bad = _refused_groups(mined, number, refused)
    good = ~np.isin(number[pairs[:, 0]], bad)
    groups = Groups(number_groups(count, pairs[good]), pairs[good], support[inside][good])
    different = np.array([one.support < _DIFFERENT for one in mined.evidence], np.bool_)  # a degenerate one is unsure
    apart = groups.number[mined.pairs[:, 0]] != groups.number[mined.pairs[:, 1]]
    alone = groups.number[mined.pairs].min(axis=1) < 0
    negatives = different & (apart | alone)
    unsure = ~different & (apart | alone)
    material = Material(
        mined.vectors,
        groups,
        _by_photo(count, mined, negatives),
        _by_photo(count, mined, unsure),
    )
    degenerate = sum(one.degenerate and one.support >= settings.least for one in mined.evidence)
    return MinedGroups(material, int(edges.sum()) - int(kept.sum()), degenerate, int(negatives.sum()), len(bad))


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


def _by_photo(count: int, mined: MinedPairs, chosen: npt.NDArray[np.bool_]) -> list[Rows]:
    """Of each photo the other ends of chosen pairs, the nearest first."""
    places = np.flatnonzero(chosen)
    both = np.concatenate([mined.pairs[places], mined.pairs[places][:, ::-1]])
    nearness = np.tile(mined.similarity[places], 2)
    order = np.lexsort((-nearness, both[:, 0]))
    starts = np.searchsorted(both[order, 0], np.arange(1, count))
    return [np.asarray(part, np.int64) for part in np.split(both[order, 1], starts)]
