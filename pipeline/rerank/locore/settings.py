"""Settings of the reranker `locore`: the section `rerank.locore`.

Beside the reranker; imports no network.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.rerank.settings import TrainedSettings
from pipeline.settings import Positive, PositiveFloat


class LoCoReSettings(TrainedSettings):
    """LoCoRe (Xiao et al., CVPR 2025): weight is the paper's alpha; 400 candidates in its evaluation."""

    temperature: PositiveFloat | None = Field(
        None, description="factor on the logit; null: as the checkpoint says, 0.1 for an official one"
    )
    locals: Positive | None = Field(
        None, description="local descriptors per image; null: as the checkpoint says, 48 for an official one"
    )
    window: Positive | None = Field(
        None, description="candidates in one pass; null: as the checkpoint says, 100 for an official one"
    )
    stride: Positive | None = Field(
        None, description="from one window to the next, where top is more than a window; null: half of a window"
    )
    direction: Literal["end-to-start", "start-to-end", "end-to-start-to-end", "start-to-end-to-start"] = Field(
        "end-to-start", description="order of the windows over the candidates"
    )
    aggregation: Literal["max-start", "max-end", "max-sum", "max-prod", "mean"] | None = Field(
        None, description="score of a candidate from its tokens; null: as the checkpoint says, max-end if official"
    )
