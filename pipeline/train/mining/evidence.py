"""What speaks for two photos showing the same thing: how many points agree, how sure, and how far they are spread.

Made from verified matches, kept in a `PairFile`, read by the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.types import Box, FloatArray, VerifiedMatches

# Points that spread less than this, as a share of the longer side, lie on a line or on one spot, such as a date that a
# camera printed into each photo: a model of them says nothing of the rest of the picture.
LEAST_SPREAD = 0.02


@dataclass(frozen=True)
class Evidence:
    """The result of one verification.

    Attributes:
        inliers: matches that agree with one model.
        support: the sum of their confidences, see `VerifiedMatches.support`.
        spread: of the inliers along the shorter axis of their cloud, as a standard deviation and a share of the longer
            side of what was read; the smaller one of the two photos. 0 where nothing agrees.
    """

    inliers: int
    support: float
    spread: float

    @property
    def degenerate(self) -> bool:
        """Whether the agreeing points lie on a line or on one spot."""
        return self.spread < LEAST_SPREAD


def evidence_of(found: VerifiedMatches, image_region: Box) -> Evidence:
    """Of verified matches; `image_region` is the part of the second photo that was read."""
    if not found.inlier_count:
        return Evidence(0, 0.0, 0.0)
    sides = (found.query_xy[found.inliers], found.region), (found.image_xy[found.inliers], image_region)
    return Evidence(found.inlier_count, found.support, min(_spread(xy, region) for xy, region in sides))


def _spread(xy: FloatArray, region: Box) -> float:
    """The standard deviation of points [n, 2] along the shorter axis of their cloud, in longer sides of `region`."""
    x0, y0, x1, y1 = region
    centred = (xy - xy.mean(axis=0)).astype(np.float64)
    least = float(np.linalg.eigvalsh(centred.T @ centred / len(xy))[0])
    return float(np.sqrt(max(least, 0.0))) / max(x1 - x0, y1 - y0, 1.0)
