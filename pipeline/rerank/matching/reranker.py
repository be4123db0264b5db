"""The reranker `matching`: candidates are scored by how many keypoints they share with the query in one geometry.

Score of a candidate: log(1 + s) / log(1 + k), where s is the sum of the matcher's confidences over the inliers and k
the number of keypoints that are compared. A sum of confidences tells doubtful matches from sure ones, and its
logarithm keeps one picture with very many from ruling a fused score (docs/matching.md has what other scores give).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from pipeline.errors import RelookError, unknown_name
from pipeline.rerank.matching.matchers import features_for, load_matcher
from pipeline.rerank.matching.poselib_estimator import require_poselib
from pipeline.rerank.matching.verification import ESTIMATORS, verify
from pipeline.rerank.parallel_batches import map_in_parallel
from pipeline.types import (
    Candidates,
    Description,
    DescriptorSource,
    FloatArray,
    Geometry,
    Keypoints,
    KeypointsCard,
    Matcher,
    ModelCard,
    VerifiedMatches,
)

# Queries whose candidates are in memory at once: 25 images of 1,024 keypoints take 7 MB.
_QUERIES = 8
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class _QueryMatches:
    """The matches of a query with its candidates, by id."""

    query: Description
    gallery: weakref.ref[DescriptorSource]
    matches: dict[str, VerifiedMatches]


class MatchingReranker:
    """Matches keypoints, verifies the geometry, counts inliers.

    Args:
        matcher: of the keypoints.
        features: their kind, a name of `pipeline.describe.keypoints`.
        keypoints: how many of each image are compared, and how many matches count at most, the strongest.
        verification: the geometry that matches must agree with.
        tolerance, estimator: see `verify`.
    """

    needs = frozenset({"keypoints"})

    def __init__(
        self,
        matcher: Matcher,
        features: str = "xfeat",
        keypoints: int = 1024,
        verification: Geometry = "fundamental",
        tolerance: float = 0.005,
        estimator: str = "opencv",
    ) -> None:
        self.features = features
        self._matcher = matcher
        self._count = keypoints
        self._geometry: Geometry = verification
        self._tolerance = tolerance
        self._estimator = estimator
        self._last: _QueryMatches | None = None

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None = None,
        device: str = "cpu",
        features: str | None = None,
        matcher: str = "lightglue",
        keypoints: int = 1024,
        verification: Geometry = "fundamental",
        tolerance: float = 0.005,
        estimator: str = "opencv",
        depth_confidence: float | None = None,
        width_confidence: float | None = None,
        ratio: float | None = None,
        accept_license: Sequence[str] = (),
    ) -> Self:
        """The reranker with these settings.

        Args:
            checkpoint: of the matcher; None: packaged weights where there are some.
            device: "cpu" or "cuda".
            features: kind of the keypoints; None: "xfeat", or "picture" for a dense matcher.
            matcher: a key of `matchers.MATCHERS`.
            keypoints, verification, tolerance, estimator: see the class.
            depth_confidence, width_confidence, ratio: of the matcher; None: its own.
            accept_license: see `load_matcher`.

        Raises:
            UsageError: no such matcher or estimator, or it does not match these features.
            RelookError: its weights cannot be had, or the estimator's package is not installed.
        """
        if estimator not in ESTIMATORS:
            raise unknown_name("estimator of the reranker matching", estimator, ESTIMATORS)
        if estimator == "poselib":
            require_poselib()
        kind = features or features_for(matcher, None)
        given = {"depth_confidence": depth_confidence, "width_confidence": width_confidence, "ratio": ratio}
        options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        made = load_matcher(matcher, kind, checkpoint, device, accept_license, **options)
        return cls(made, kind, keypoints, verification, tolerance, estimator)

    def check(self, card: ModelCard) -> None:
        """See `Reranker.check`; it reads no descriptors of the model."""

    def bind(self, card: ModelCard) -> Self:
        """See `Reranker.bind`."""
        return self

    def check_keypoints(self, card: KeypointsCard) -> None:
        """Raises RelookError when keypoints of this card cannot be matched, and says what differs."""
        if card.kind != self.features:
            raise RelookError(
                f"the reranker matching matches {self.features}, but the keypoints are {card.kind}; "
                f"give --set rerank.matching.features={card.kind}"
            )
        self._matcher.check(card)

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        """See `Reranker.score`; values in [0, 1]."""
        if len(queries) != len(candidates.ids):
            raise RelookError(f"{len(queries)} queries for {len(candidates.ids)} lists of candidates")
        scores: list[FloatArray] = []
        for rows in _blocks(len(queries)):
            ids = candidates.ids[rows]
            found = self._verified(queries[rows], ids, gallery)
            for query, names in zip(queries[rows], ids, strict=True):
                matches = {name: next(found) for name in names}
                scores.append(self._scores([matches[name] for name in names]))
                self._last = _QueryMatches(query, weakref.ref(gallery), matches)
        return scores

    def explain(
        self, query: Description, candidates: Candidates, ids: Sequence[str], gallery: DescriptorSource
    ) -> list[VerifiedMatches]:
        """See `ExplainingReranker.explain`: which points match, and the geometry that they agree with.

        Those of the query that was scored last are at hand; others are matched once more.
        """
        last = self._last
        found = dict(last.matches) if last and last.query is query and last.gallery() is gallery else {}
        if missing := [name for name in ids if name not in found]:
            found |= zip(missing, self._verified([query], [missing], gallery), strict=True)
        return [found[name] for name in ids]

    def match_images(self, pairs: Sequence[tuple[Keypoints, Keypoints]]) -> list[VerifiedMatches]:
        """The verified matches of pairs of images, in order."""
        firsts = [(left.first(self._count), right.first(self._count)) for left, right in pairs]
        found = (matches.strongest(self._count) for matches in self._matcher.match(firsts))
        matched = zip(firsts, found, strict=True)
        return list(
            map_in_parallel(
                lambda item: verify(*item[0], item[1], self._geometry, self._tolerance, self._estimator), matched, _CPU
            )
        )

    def _verified(
        self, queries: Sequence[Description], ids: Sequence[Sequence[str]], gallery: DescriptorSource
    ) -> Iterator[VerifiedMatches]:
        names = sorted({name for row in ids for name in row})
        images = dict(zip(names, gallery.keypoints(names), strict=True))
        pairs = [(_keypoints(query), images[name]) for query, row in zip(queries, ids, strict=True) for name in row]
        return iter(self.match_images(pairs))

    def _scores(self, found: Sequence[VerifiedMatches]) -> FloatArray:
        sums = np.array([one.support for one in found], np.float32)
        return np.asarray(np.log1p(sums) / np.log1p(np.float32(self._count)), np.float32)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + _QUERIES) for start in range(0, count, _QUERIES))


def _keypoints(query: Description) -> Keypoints:
    if query.keypoints is None:
        raise RelookError("the query was described without keypoints, which the reranker matching needs")
    return query.keypoints
