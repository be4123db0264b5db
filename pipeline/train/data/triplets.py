"""Triplets from the store's candidates: an anchor, an image of the same label, a hard negative.

The miner of reranker training. Negatives are the anchor's first candidates of another label, which the global search
confuses with it, as in Tan et al., ICCV 2021, section 4.1, who draw them from the first 100.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from pipeline.errors import RelookError
from pipeline.train.loop.task import Rows


class MiningError(RelookError):
    """The collection has no triplets."""


class Triplets:
    """Draws triplets of row numbers.

    Args:
        labels: of all N images; "" is a distractor, which is never an anchor or a positive.
        candidates: per image the rows of its candidates, best first, without the image itself.
        groups: of all N images; a positive is of its anchor's group (the candidates should be too).

    Raises:
        MiningError: no image has both a positive and a negative.
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
                "no triplets: no image has both another one of its label and candidates of other labels; label five or "
                "more images of several things"
            )

    def epoch(self, count: int, rng: np.random.Generator, hardest: Rows | None = None) -> Rows:
        """[count, 3] rows (anchor, positive, negative); every anchor occurs equally often, or once more.

        Args:
            count: how many rows.
            rng: of the draws.
            hardest: [count] from how many of its anchor's hardest negatives each row's is drawn; None: from all.
        """
        rounds = -(-count // len(self.anchors))
        order = np.concatenate([rng.permutation(len(self.anchors)) for _ in range(rounds)])[:count]
        drawn = np.empty((count, 3), dtype=np.int64)
        drawn[:, 0] = self.anchors[order]
        for column, pools in ((1, self._positives), (2, self._negatives)):
            sizes = np.array([len(pool) for pool in pools])[order]
            if column == 2 and hardest is not None:
                sizes = np.minimum(sizes, hardest)
            places = (rng.random(count) * sizes).astype(np.int64)
            drawn[:, column] = [pools[number][place] for number, place in zip(order, places, strict=True)]
        return drawn
