"""Retrieval among held-out images while something is trained: every one whose label occurs twice queries the others.

Under the validators of `train-global` and `train-detector`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

from pipeline.evaluate import by_labels
from pipeline.stores.exact.named_vectors import NamedVectors
from pipeline.types import FloatArray, Ranking


class HeldOutRetrieval:
    """Scores descriptors of N images.

    Args:
        ids: of the images.
        labels: of each; "" is a distractor.
    """

    def __init__(self, ids: Sequence[str], labels: Sequence[str]) -> None:
        self._ids, self._labels = list(ids), list(labels)

    @cached_property
    def queries(self) -> list[int]:
        """Rows of the images whose label occurs twice."""
        counts = Counter(self._labels)
        return [row for row, label in enumerate(self._labels) if label and counts[label] > 1]

    def scores(self, vectors: FloatArray) -> dict[str, float]:
        """mAP and R@1 in percent of unit vectors [N, D]."""
        labels = [self._labels[row] for row in self.queries]
        itself = [{self._ids[row]} for row in self.queries]
        truth = dict(zip(self._ids, self._labels, strict=True))
        summary = by_labels(self._rankings(vectors), labels, truth, itself)[0].summary()
        return {name: summary[name] for name in ("mAP", "R@1")}

    def _rankings(self, vectors: FloatArray) -> list[Ranking]:
        """All other images by similarity to each query."""
        found = NamedVectors(self._ids, vectors).query(vectors[self.queries], len(self._ids))
        rankings = []
        for row, (ids, scores) in zip(self.queries, found, strict=True):
            others = [place for place, name in enumerate(ids) if name != self._ids[row]]
            rankings.append(Ranking(self._ids[row], [ids[place] for place in others], scores[others]))
        return rankings
