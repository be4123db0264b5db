"""What a protocol reads of a ranking: the places of the relevant ids, and the label of the first labelled result.

Between the rankings and the protocols of this room. One pass over a ranking makes a `RankedRelevance`, which is small:
rankings of a million images are reduced block by block, and scored together at the end.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.evaluate.metrics import IntArray
from pipeline.types import Ranking


@dataclass(frozen=True)
class Guess:
    """The label of the first labelled result of a ranking, and its score (higher is more certain)."""

    label: Hashable
    score: float


@dataclass(frozen=True)
class RankedRelevance:
    """One query's ranking, reduced to relevance.

    Attributes:
        query_id: the query.
        places: per group of `GroundTruth.groups` the places (from 0, ascending) of its ids in the ranking.
        sizes: per group how many ids it has, ranked or not.
        labels: the correct labels, for recognition.
        guess: of the first labelled result; None where there is none.
    """

    query_id: str
    places: Mapping[str, IntArray]
    sizes: Mapping[str, int]
    labels: frozenset[str] = frozenset()
    guess: Guess | None = None


def mark_relevance(
    ranking: Ranking,
    groups: Mapping[str, Collection[str]],
    gallery_labels: Mapping[str, str] | None = None,
    labels: Collection[str] = (),
) -> RankedRelevance:
    """Find the relevant ids of a ranking.

    Args:
        ranking: best first, each id at most once; it may be cut short, and missing ids count as not found.
        groups: disjoint sets of gallery ids by name.
        gallery_labels: label by id, for recognition; "" for an image without one.
        labels: the correct labels of the query.
    """
    group_of = {name: group for group, ids in groups.items() for name in ids}
    found: dict[str, list[int]] = {group: [] for group in groups}
    # Membership is tested before anything else is done with a place: nearly all of a long ranking is negatives.
    for place in [place for place, name in enumerate(ranking.ids) if name in group_of]:
        found[group_of[ranking.ids[place]]].append(place)
    return RankedRelevance(
        ranking.query_id,
        {group: np.array(places, dtype=np.intp) for group, places in found.items()},
        {group: len(ids) for group, ids in groups.items()},
        frozenset(labels),
        None if gallery_labels is None else _guess(ranking, gallery_labels),
    )


def _guess(ranking: Ranking, gallery_labels: Mapping[str, str]) -> Guess | None:
    for name, score in zip(ranking.ids, ranking.scores, strict=True):
        if gallery_labels.get(name):
            return Guess(gallery_labels[name], float(score))
    return None
