"""Why a reranker scored an image as it did: what matched, which neighbours counted, where it attended.

Made by rerankers on request, shown by reports. All points are in pixels of the upright originals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.types.descriptors import FloatArray
from pipeline.types.images import Box

Geometry = Literal["homography", "fundamental", "none"]


@dataclass(frozen=True)
class VerifiedMatches:
    """Matches of a query and an image, and the geometry that they agree with.

    Attributes:
        query_xy, image_xy: [k, 2] float32, the matched points in pixels of the upright originals.
        scores: [k] float32 in [0, 1], the matcher's confidence.
        inliers: [k] bool, which of them agree with the model; all of them where nothing is verified.
        model: [3, 3] float64: the homography H from the query to the image, or the fundamental matrix F with
            image^T F query = 0; None where nothing is verified, or no model was found.
        geometry: which of them it is.
        region: x0, y0, x1, y1: the part of the query that was read, in pixels of its upright original.
    """

    query_xy: FloatArray
    image_xy: FloatArray
    scores: FloatArray
    inliers: npt.NDArray[np.bool_]
    model: npt.NDArray[np.float64] | None
    geometry: Geometry
    region: Box

    @property
    def inlier_count(self) -> int:
        """How many matches agree."""
        return int(self.inliers.sum())

    @property
    def support(self) -> float:
        """The sum of the confidences of the matches that agree."""
        return float(self.scores[self.inliers].sum())

    def outline(self) -> FloatArray | None:
        """[4, 2] float32, where the homography has the corners of the query in the image, in pixels of it.

        None where there is no homography, or a corner has no place in front of the camera.
        """
        if self.model is None or self.geometry != "homography":
            return None
        x0, y0, x1, y1 = self.region
        corners = np.array([[x0, y0, 1], [x1, y0, 1], [x1, y1, 1], [x0, y1, 1]], np.float64) @ self.model.T
        depth = corners[:, 2]
        if not (np.all(depth > 0) or np.all(depth < 0)):
            return None
        return np.asarray(corners[:, :2] / depth[:, None], np.float32)

    def to_json(self) -> dict[str, Any]:
        """Plain values, in pixels of the upright originals; the part "explanation" of `relook search --explain`."""
        outline = self.outline()
        return {
            "matches": len(self.inliers),
            "inliers": self.inlier_count,
            "support": round(self.support, 4),
            "geometry": self.geometry,
            "model": None if self.model is None else self.model.tolist(),
            "outline": None if outline is None else outline.round(2).tolist(),
            "points": [
                {"query": query, "image": image, "score": score, "inlier": inlier}
                for query, image, score, inlier in zip(
                    self.query_xy.round(2).tolist(),
                    self.image_xy.round(2).tolist(),
                    self.scores.round(4).tolist(),
                    self.inliers.tolist(),
                    strict=True,
                )
            ],
        }


@dataclass(frozen=True)
class Neighbours:
    """Which other images changed the score of an image: SuperGlobal and the classics.

    Attributes:
        ids: of the neighbours, those that count most first.
        weights: [n] float32, their shares; with that of the image itself, or of the query, they add up to 1. Of
            superglobal and dba, of the refined descriptor of the image; of query expansion, of the expanded query; of
            k_reciprocal, of what the encodings of query and image have in common; of diffusion, of what flows to it.
        before, after: similarity of the query to the image, before and after its neighbours counted.
    """

    ids: Sequence[str]
    weights: FloatArray
    before: float
    after: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; the part "explanation" of `relook search --explain`."""
        return {
            "before": round(self.before, 6),
            "after": round(self.after, 6),
            "neighbours": [
                {"id": name, "weight": round(weight, 6)}
                for name, weight in zip(self.ids, self.weights.tolist(), strict=True)
            ],
        }


@dataclass(frozen=True)
class Attended:
    """How much each local descriptor of a pair adds to the score of a transformer, or its vote (ELViS).

    Attributes:
        query_xy, image_xy: [n, 2] and [m, 2] float32, where they lie.
        query_effect, image_effect: [n] and [m] float32: the change of the logit per unit of the descriptor, times the
            descriptor (gradient times input); positive values speak for the same thing.
        candidates: of a reranker of lists, the same of each other candidate, all its descriptors together, by id; those
            that count most first.
    """

    query_xy: FloatArray
    image_xy: FloatArray
    query_effect: FloatArray
    image_effect: FloatArray
    candidates: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; the part "explanation" of `relook search --explain`."""
        sides = {"query": (self.query_xy, self.query_effect), "image": (self.image_xy, self.image_effect)}
        others = [{"id": name, "effect": round(effect, 6)} for name, effect in self.candidates.items()]
        return ({"candidates": others} if others else {}) | {
            side: [
                {"xy": place, "effect": effect}
                for place, effect in zip(xy.round(2).tolist(), values.round(6).tolist(), strict=True)
            ]
            for side, (xy, values) in sides.items()
        }


Explanation = VerifiedMatches | Neighbours | Attended
