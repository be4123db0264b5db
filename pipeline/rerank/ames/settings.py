"""Settings of the reranker `ames`: the section `rerank.ames`.

Beside the reranker; imports no network.
"""

from __future__ import annotations

from pydantic import Field

from pipeline.rerank.settings import TransformerSettings
from pipeline.settings import Positive, PositiveFloat


class AMESSettings(TransformerSettings):
    """AMES (Suma et al., ECCV 2024): weight is the paper's lambda, temperature its gamma; its readme has values."""

    temperature: PositiveFloat | None = Field(
        None, description="factor on the logit; null: as the checkpoint says, 1 for an official one"
    )
    query_locals: Positive = Field(600, description="local descriptors of the query that are compared")
    gallery_locals: Positive = Field(50, description="local descriptors of each candidate that are compared")
    round_gallery: bool | None = Field(
        None, description="candidates' projected descriptors pass through float16; null: as the official code does"
    )
