"""Validation of a reranker while it is trained: the epoch and the fusion weight that held-out pictures choose.

Called by `train-rerank` after every epoch. What counts is what a user gets: the mAP of the fused ranking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.evaluate import Scores, by_labels
from pipeline.rerank import RerankStep, apply_chain
from pipeline.train import JointRecipe, Recipe, Validation
from pipeline.types import (
    Candidates,
    Description,
    DescriptorSource,
    FloatArray,
    ImageRecord,
    ModelCard,
    Ranking,
)
from pipeline.workflow.gallery import Gallery
from pipeline.workflow.in_memory_gallery import InMemoryGallery
from pipeline.workflow.queries import find_candidates

_WEIGHTS = np.linspace(0, 1, 11)
_TEMPERATURES = (0.25, 1.0)


@dataclass(frozen=True)
class _View:
    """The held-out pictures as a describer sees them.

    Attributes:
        asked: those that query.
        candidates: all others, by the global descriptors.
        source: where the reranker reads them.
        before: metrics of the global search.
    """

    asked: list[Description]
    candidates: Candidates
    source: DescriptorSource
    before: Mapping[str, float]


class RerankerValidator:
    """Validates by what counts: mAP of the fused ranking on held-out pictures that query each other.

    They are read from the index, or described again at every validation where the describer learns too.
    """

    def __init__(self, gallery: Gallery, records: list[ImageRecord], name: str, recipe: Recipe, config: Config) -> None:
        counts = Counter(record.label for record in records)
        asked = [record for record in records if record.label and counts[record.label] > 1]
        if not asked:
            raise RelookError(
                "too few labels to hold some out for validation: train_rerank.hold_out = labels needs four with two "
                "pictures each, sessions needs one with five"
            )
        limit = config.train_rerank.validation_queries
        rows = np.random.default_rng(config.seed).permutation(len(asked))[:limit]
        self._asked = [asked[row] for row in sorted(rows)]
        self._labels = {record.id: record.label for record in records}
        self._gallery, self._recipe = gallery, recipe
        self._name = name
        self._top = config.rerank.settings_of(name).top
        self._itself = [frozenset({record.id}) for record in self._asked]
        self._stored = None if isinstance(recipe, JointRecipe) else self._as_stored()

    @property
    def count(self) -> int:
        """Queries."""
        return len(self._asked)

    def __call__(self) -> Validation:
        """Score the candidates once, then choose the weight: the best mAP among those that cost no R@1."""
        view, reranker = self._stored or self._as_described(), self._recipe.reranker
        heads = Candidates(
            view.candidates.query_ids,
            [ids[: self._top] for ids in view.candidates.ids],
            [values[: self._top] for values in view.candidates.scores],
        )
        reranker.temperature = 1.0
        probabilities = reranker.score(view.asked, heads, view.source)
        results = []
        for temperature in _TEMPERATURES:
            known = _Known([_sharpened(values, temperature) for values in probabilities])
            for weight in _WEIGHTS.tolist():
                step = RerankStep(self._name, known, self._top, weight)
                scores = self._score(apply_chain([step], view.asked, view.candidates, view.source)).summary()
                results.append((scores["R@1"] >= view.before["R@1"], scores["mAP"], weight, temperature, scores))
        _, _, weight, temperature, scores = max(results, key=lambda result: result[:4])
        metrics = {
            "mAP": scores["mAP"],
            "R@1": scores["R@1"],
            "global mAP": view.before["mAP"],
            "global R@1": view.before["R@1"],
            "weight": weight,
        }
        return Validation(scores["mAP"], metrics, {"weight": weight, "temperature": temperature})

    def _as_stored(self) -> _View:
        ids = [record.id for record in self._asked]
        asked = self._gallery.describe(ids, self._recipe.reranker.needs)
        outside = frozenset(self._gallery.index.records.keys() - self._labels.keys())
        excluded = [itself | outside for itself in self._itself]
        candidates = find_candidates(self._gallery, ids, asked, len(self._labels), excluded)
        return self._view(asked, candidates, self._gallery)

    def _as_described(self) -> _View:
        assert isinstance(self._recipe, JointRecipe)
        ids = list(self._labels)
        now = InMemoryGallery(ids, self._recipe.describe(ids))
        queries = [record.id for record in self._asked]
        asked = [now[name] for name in queries]
        return self._view(asked, find_candidates(now, queries, asked, len(ids), self._itself), now)

    def _view(self, asked: list[Description], candidates: Candidates, source: DescriptorSource) -> _View:
        before = self._score(apply_chain((), asked, candidates, source)).summary()
        return _View(asked, candidates, source, before)

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

    def bind(self, card: ModelCard) -> Self:
        """See `Reranker.bind`."""
        return self

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
