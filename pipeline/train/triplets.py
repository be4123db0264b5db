"""Triplets from the store's own candidates: anchor, a picture of the same label, a hard negative.

The miner of reranker training. Negatives are those that the global search itself confuses with the anchor (its first
answers of another label), as in Tan et al., ICCV 2021, section 4.1, who draw them from the first 100.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.errors import RelookError

Rows = npt.NDArray[np.int64]


class MiningError(RelookError):
    """The collection has no triplets."""


class Triplets:
    """Draws triplets of row numbers.

    Args:
        labels: of all N pictures; "" is a distractor, which is never an anchor or a positive.
        candidates: per picture the rows that the store answered, best first, without the picture itself.
        groups: of all N pictures; a positive is of its anchor's group (so should the candidates be).

    Raises:
        MiningError: no picture has both a positive and a negative.
    """

    def __init__(self, labels: Sequence[str], candidates: Sequence[Rows], groups: Sequence[int]) -> None:
        names = np.array(labels)
        members: dict[tuple[str, int], list[int]] = defaultdict(list)
        for row, label in enumerate(labels):
            if label:
                members[label, groups[row]].append(row)
        self._positives: list[Rows] = []
        self._negatives: list[Rows] = []
        anchors = []
        for row, label in enumerate(labels):
            found = candidates[row]
            same = members.get((label, groups[row]), ())
            positives = np.array([other for other in same if other != row], dtype=np.int64)
            negatives = found[names[found] != label]
            if len(positives) and len(negatives):
                anchors.append(row)
                self._positives.append(positives)
                self._negatives.append(negatives)
        self.anchors: Rows = np.array(anchors, dtype=np.int64)
        if not anchors:
            raise MiningError(
                "nothing to learn from: no picture has both another one of its label and candidates of other labels "
                "(does the manifest have a column label?)"
            )

    def epoch(self, per_anchor: int, rng: np.random.Generator) -> Rows:
        """[len(anchors) * per_anchor, 3] rows (anchor, positive, negative) in random order."""
        drawn = np.empty((len(self.anchors), per_anchor, 3), dtype=np.int64)
        for number, anchor in enumerate(self.anchors):
            drawn[number, :, 0] = anchor
            drawn[number, :, 1] = rng.choice(self._positives[number], per_anchor)
            drawn[number, :, 2] = rng.choice(self._negatives[number], per_anchor)
        return rng.permutation(drawn.reshape(-1, 3))
