"""Lists of candidates for rerankers that score them together: an anchor, images of its label and hard negatives.

The miner of `locore`. Negatives are the anchor's first candidates of another label, which the global search confuses
with it; the order of a list is random, so that the place of a candidate says nothing about it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.train.data.hold_out import rows_by_label
from pipeline.train.data.triplets import MiningError
from pipeline.train.loop.task import Rows


class CandidateLists:
    """Draws lists of row numbers.

    Args:
        labels: of all N images; "" is a distractor, which is never an anchor or a positive.
        candidates: per image the rows of its candidates, best first, without the image itself.
        size: G, candidates in a list.
        positives: share of them that are positives, at most; at least one is.

    Raises:
        MiningError: no image has both a positive and a negative.
    """

    def __init__(self, labels: Sequence[str], candidates: Sequence[Rows], size: int, positives: float) -> None:
        names = np.array(labels)
        members = rows_by_label(labels)
        self._size, self._most = size, max(1, round(size * positives))
        self._pools: list[tuple[Rows, Rows]] = []
        anchors = []
        for row, label in enumerate(labels):
            same = members[label][members[label] != row] if label else np.zeros(0, np.int64)
            others = candidates[row][names[candidates[row]] != label]
            if len(same) and len(others):
                anchors.append(row)
                self._pools.append((same, others))
        self.anchors: Rows = np.array(anchors, dtype=np.int64)
        if not anchors:
            raise MiningError(
                "no lists: no image has both another one of its label and candidates of other labels; label five or "
                "more images of several things"
            )

    def epoch(self, count: int, rng: np.random.Generator) -> Rows:
        """[count, 1 + G] rows, the anchor first; every anchor occurs equally often, or once more.

        A list has each image once, unless there are fewer than it has places.
        """
        rounds = -(-count // len(self.anchors))
        order = np.concatenate([rng.permutation(len(self.anchors)) for _ in range(rounds)])[:count]
        return np.stack([np.concatenate([self.anchors[[number]], self._list(number, rng)]) for number in order])

    def _list(self, number: int, rng: np.random.Generator) -> Rows:
        same, others = self._pools[number]
        wanted = min(self._most, len(same))
        negatives = rng.permutation(others)[: self._size - wanted]
        positives = rng.permutation(same)[: self._size - len(negatives)]
        drawn = np.concatenate([positives, negatives])
        again = rng.choice(drawn, self._size - len(drawn))
        return rng.permutation(np.concatenate([drawn, again]))
