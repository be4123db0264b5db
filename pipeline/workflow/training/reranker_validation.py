"""Validation of a reranker while it is trained: held-out images choose the epoch and the fusion weight.

Called by `train-rerank` after every epoch. The score is the mAP of the fused ranking, which is what a search returns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.evaluate import Scores, by_labels, paired_difference
from pipeline.rerank import RerankStep, apply_chain
from pipeline.rerank.windows import windows_of
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
from pipeline.workflow.in_memory_gallery import InMemoryGallery
from pipeline.workflow.opened_index import OpenedIndex
from pipeline.workflow.queries import find_candidates

_WEIGHTS = np.linspace(0, 1, 11)


@dataclass(frozen=True)
class _HeldOut:
    """The held-out images as one describer describes them.

    Attributes:
        queries: [Q] descriptions of the queries.
        candidates: all others, by the global descriptors.
        source: gives the reranker their local descriptors.
        before: metrics of the global search.
    """

    queries: list[Description]
    candidates: Candidates
    source: DescriptorSource
    before: Mapping[str, float]


@dataclass(frozen=True)
class Fused:
    """The fused ranking of one weight and one temperature: scores of every query, and their summary."""

    scores: Scores
    summary: Mapping[str, float]
    weight: float
    temperature: float

    @property
    def factors(self) -> tuple[float, float]:
        """Of equal ones the larger weight is taken, then the larger temperature."""
        return self.weight, self.temperature


class RerankerValidator:
    """Validates a reranker by the mAP of the fused ranking, on held-out images that query each other.

    Their descriptors are read from the index, or computed at every validation if the describer is trained too.

    Args:
        gallery: the index.
        records: of the held-out images.
        name: of the reranker.
        recipe: gives the reranker with its current weights.
        config: `train_rerank`, `rerank` and `seed` are read.
        among: records of other images that are searched too: a few held-out groups alone are ranked right by anything.

    Raises:
        RelookError: no two of the images have the same label.
    """

    def __init__(
        self,
        gallery: OpenedIndex,
        records: list[ImageRecord],
        name: str,
        recipe: Recipe,
        config: Config,
        among: Sequence[ImageRecord] = (),
    ) -> None:
        counts = Counter(record.label for record in records)
        queries = [record for record in records if record.label and counts[record.label] > 1]
        if not queries:
            raise RelookError(
                "too few labels to hold some out for validation: train_rerank.hold_out = labels needs four with two "
                "images each, sessions needs one with five"
            )
        limit = config.train_rerank.validation_queries
        rows = np.random.default_rng(config.seed).permutation(len(queries))[:limit]
        self._queries = [queries[row] for row in sorted(rows)]
        self._labels = {record.id: record.label for record in [*records, *among]}
        self._gallery, self._recipe = gallery, recipe
        self._rule = config.train_rerank.weight_rule
        self._name = name
        windows = windows_of(recipe.reranker)
        top: int = config.rerank.settings_of(name).top
        self._top = min(top, windows.size) if windows else top  # one pass, whose scores serve every weight
        self._itself = [frozenset({record.id}) for record in self._queries]
        self._stored = None if isinstance(recipe, JointRecipe) else self._as_stored()

    @property
    def count(self) -> int:
        """The number of queries."""
        return len(self._queries)

    def __call__(self) -> Validation:
        """Score the candidates once, then choose the weight by `train_rerank.weight_rule`, and the temperature."""
        images, reranker = self._stored or self._as_described(), self._recipe.reranker
        heads = Candidates(
            images.candidates.query_ids,
            [ids[: self._top] for ids in images.candidates.ids],
            [values[: self._top] for values in images.candidates.scores],
        )
        temperatures = self._recipe.temperatures
        reranker.temperature = lowest = min(temperatures)
        probabilities = reranker.score(images.queries, heads, images.source)
        results = []
        for temperature in temperatures:
            scored = _PrecomputedScores([_with_temperature(values, temperature / lowest) for values in probabilities])
            for weight in _WEIGHTS.tolist():
                step = RerankStep(self._name, scored, self._top, weight)
                scores = self._score(apply_chain([step], images.queries, images.candidates, images.source))
                results.append(Fused(scores, scores.summary(), weight, temperature))
        least = images.before["R@1"]
        best = max(results, key=lambda one: (one.summary["R@1"] >= least, one.summary["mAP"], *one.factors))
        chosen = best if self._rule == "best" else most_cautious(results, best, least)
        metrics = {
            "mAP": chosen.summary["mAP"],
            "R@1": chosen.summary["R@1"],
            "global mAP": images.before["mAP"],
            "global R@1": images.before["R@1"],
            "weight": chosen.weight,
        }
        return Validation(best.summary["mAP"], metrics, {"weight": chosen.weight, "temperature": chosen.temperature})

    def _as_stored(self) -> _HeldOut:
        ids = [record.id for record in self._queries]
        queries = self._gallery.describe(ids, self._recipe.reranker.needs)
        outside = frozenset(self._gallery.index.records.keys() - self._labels.keys())
        excluded = [itself | outside for itself in self._itself]
        candidates = find_candidates(self._gallery, ids, queries, len(self._labels), excluded)
        return self._held_out(queries, candidates, self._gallery)

    def _as_described(self) -> _HeldOut:
        assert isinstance(self._recipe, JointRecipe)
        ids = list(self._labels)
        described = InMemoryGallery(ids, self._recipe.describe(ids))
        query_ids = [record.id for record in self._queries]
        queries = [described[name] for name in query_ids]
        candidates = find_candidates(described, query_ids, queries, len(ids), self._itself)
        return self._held_out(queries, candidates, described)

    def _held_out(self, queries: list[Description], candidates: Candidates, source: DescriptorSource) -> _HeldOut:
        before = self._score(apply_chain((), queries, candidates, source)).summary()
        return _HeldOut(queries, candidates, source, before)

    def _score(self, rankings: list[Ranking]) -> Scores:
        labels = [record.label for record in self._queries]
        return by_labels(rankings, labels, self._labels, self._itself)[0]


def most_cautious(results: Sequence[Fused], best: Fused, least: float) -> Fused:
    """The largest weight of the global score among those that are no worse than the best by one standard error.

    The error is that of the paired difference over queries (the rule of Breiman et al., "Classification and Regression
    Trees", 1984). Held-out labels of the training set's own kind say little between such weights, and another kind of
    photos is harmed least by the one that changes least.

    Args:
        results: of all weights and temperatures.
        best: the one of the highest mAP.
        least: R@1 in percent that they have at least, where the best one has it too.
    """
    near = [
        one
        for one in results
        if one.summary["R@1"] >= min(least, best.summary["R@1"])
        and best.summary["mAP"] - one.summary["mAP"] <= paired_difference(one.scores, best.scores)["mAP_se"]
    ]
    return max([best, *near], key=lambda one: (one.weight, one.summary["mAP"], one.temperature))


class _PrecomputedScores:
    """A reranker that returns given scores."""

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


def _with_temperature(probabilities: FloatArray, temperature: float) -> FloatArray:
    """The probabilities of the same logits times `temperature`."""
    if temperature == 1:
        return probabilities
    clipped = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    odds = np.log(clipped) - np.log1p(-clipped)
    return np.asarray(1 / (1 + np.exp(-temperature * odds)), dtype=np.float32)
