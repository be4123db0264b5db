"""Settings of the reranker `matching`: the section `rerank.matching`.

Beside the reranker; imports no network. The defaults are those that docs/matching.md measures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.rerank.settings import RerankerSettings
from pipeline.settings import Fraction, Positive

# When LightGlue ends a pair and drops points, where nothing is set. The official code has 0.95 and 0.99. These take two
# thirds of the arithmetic of 0.95 and 0.95, and rank as well (docs/matching.md, measured with XFeat).
DEPTH_CONFIDENCE, WIDTH_CONFIDENCE = 0.8, 0.9


class MatchingSettings(RerankerSettings):
    """Re-ranking by matched keypoints and verified geometry."""

    top: Positive = Field(25, description="candidates that are re-ranked")
    weight: Fraction | None = Field(0.65, description="of the global similarity in the fused score")
    features: str | None = Field(
        None, description="kind of keypoints, such as xfeat or sift; null: those of the index, xfeat where it has none"
    )
    matcher: Literal["mutual", "lightglue", "superglue", "loftr", "eloftr"] = Field(
        "lightglue", description="what matches keypoints, or with loftr and eloftr the pictures themselves"
    )
    checkpoint: Path | None = Field(None, description="of the matcher; null: packaged weights, where there are some")
    depth_confidence: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None,
        description="lightglue: a pair ends when more than this share of its keypoints is sure; null: 0.8, -1: never",
    )
    width_confidence: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None, description="lightglue: keypoints without a match with this confidence are dropped; null: 0.9, -1: none"
    )
    ratio: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="mutual: the most that the nearest may be of the distance to the second; null: no test"
    )
    keypoints: Positive = Field(1024, description="keypoints compared per image, the strongest")
    verification: Literal["homography", "fundamental", "none"] = Field(
        "fundamental", description="the geometry that matches must agree with; none: every match counts"
    )
    estimator: Literal["opencv", "poselib"] = Field(
        "opencv", description="what finds the geometry: OpenCV's MAGSAC++, or PoseLib (pip install 'relook[poselib]')"
    )
    tolerance: Annotated[float, Field(gt=0, le=0.1)] = Field(
        0.005, description="how far an inlier may lie off, as a share of the longer side of the image"
    )
