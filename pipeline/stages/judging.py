"""Validation of a reranker while it is trained: the epoch and the fusion weight that held-out pictures choose.

Called by `train-rerank` after every epoch. What counts is what a user gets: the mAP of the fused ranking.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.evaluate import Scores, by_labels
from pipeline.rerank import Look, look_again
from pipeline.stages.opening import Gallery
from pipeline.stages.queries import find_candidates
from pipeline.train import TrainedReranker, Validation
from pipeline.types import (
    Candidates,
    Description,
    DescriptorSource,
    FloatArray,
    ImageRecord,
    ModelCard,
    Ranking,
)

_WEIGHTS = np.linspace(0, 1, 11)
_TEMPERATURES = (0.25, 1.0)


class Judge:
    """Validates by what counts: mAP of the fused ranking on held-out pictures that query each other."""

    def __init__(
        self, gallery: Gallery, records: list[ImageRecord], name: str, reranker: TrainedReranker, config: Config
    ) -> None:
        labels = [record.label for record in records]
        asked = [record for record in records if record.label and labels.count(record.label) > 1]
        if not asked:
            raise RelookError(
                "too few labels to hold some out for validation: train_rerank.hold_out = labels needs four with two "
                "pictures each, sessions needs one with five"
            )
        limit = config.train_rerank.validation_queries
        rows = np.random.default_rng(config.seed).permutation(len(asked))[:limit]
        self._asked = [asked[row] for row in sorted(rows)]
        self._labels = {record.id: record.label for record in records}
        self._gallery, self._reranker = gallery, reranker
        self._name = name
        self._top = getattr(config.rerank, name).top
        self._descriptions = gallery.describe([record.id for record in self._asked], reranker.needs)
        outside = frozenset(gallery.index.records.keys() - self._labels.keys())
        self._itself = [frozenset({record.id}) for record in self._asked]
        self._candidates = find_candidates(
            gallery,
            [record.id for record in self._asked],
            self._descriptions,
            len(records),
            [itself | outside for itself in self._itself],
        )
        self._before = self._score(look_again((), self._descriptions, self._candidates, gallery)).summary()

    @property
    def count(self) -> int:
        """Queries."""
        return len(self._asked)

    def __call__(self) -> Validation:
        """Score the candidates once, then choose the weight: the best mAP among those that cost no R@1."""
        heads = Candidates(
            self._candidates.query_ids,
            [ids[: self._top] for ids in self._candidates.ids],
            [values[: self._top] for values in self._candidates.scores],
        )
        self._reranker.temperature = 1.0
        probabilities = self._reranker.score(self._descriptions, heads, self._gallery)
        results = []
        for temperature in _TEMPERATURES:
            known = _Known([_sharpened(values, temperature) for values in probabilities])
            for weight in _WEIGHTS.tolist():
                look = Look(self._name, known, self._top, weight)
                rankings = look_again([look], self._descriptions, self._candidates, self._gallery)
                scores = self._score(rankings).summary()
                results.append((scores["R@1"] >= self._before["R@1"], scores["mAP"], weight, temperature, scores))
        _, _, weight, temperature, scores = max(results, key=lambda result: result[:4])
        metrics = {
            "mAP": scores["mAP"],
            "R@1": scores["R@1"],
            "global mAP": self._before["mAP"],
            "global R@1": self._before["R@1"],
            "weight": weight,
        }
        return Validation(scores["mAP"], metrics, {"weight": weight, "temperature": temperature})

    def _score(self, rankings: list[Ranking]) -> Scores:
        labels = [record.label for record in self._asked]
        return by_labels(rankings, labels, self._labels, self._itself)[0]


class _Known:
    """A reranker whose scores were computed before."""

    needs: frozenset[str] = frozenset()

    def __init__(self, scores: list[FloatArray]) -> None:
        self._scores = scores

    def check(self, card: ModelCard) -> None:
        """See `Reranker.check`."""

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        """See `Reranker.score`."""
        return self._scores


def _sharpened(probabilities: FloatArray, temperature: float) -> FloatArray:
    """The probabilities that logits times `temperature` would have given."""
    if temperature == 1:
        return probabilities
    clipped = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    odds = np.log(clipped) - np.log1p(-clipped)
    return np.asarray(1 / (1 + np.exp(-temperature * odds)), dtype=np.float32)
