"""Settings of the reranker `rrt`: the section `rerank.rrt`.

Beside the reranker; imports no network.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.rerank.settings import TransformerSettings
from pipeline.settings import Positive


class RRTSettings(TransformerSettings):
    """The Reranking Transformer (Tan, Yuan, Ordonez, ICCV 2021)."""

    locals: Positive | None = Field(
        None, description="local descriptors compared per image; null: as the checkpoint says, 500 for an official one"
    )
    scale_rule: Literal["official", "nearest"] | None = Field(
        None, description="entry of the scale table: as the official code finds it, or the nearest; null: as trained"
    )
