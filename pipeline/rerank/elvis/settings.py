"""Settings of the reranker `elvis`: the section `rerank.elvis`.

Beside the reranker; imports no network.
"""

from __future__ import annotations

from pydantic import Field

from pipeline.rerank.settings import PairSettings
from pipeline.settings import Positive, PositiveFloat


class ELViSSettings(PairSettings):
    """ELViS (Suma et al., ICLR 2026): weight is the authors' lamb, temperature their temp, both 0.5 in their test."""

    batch_size: Positive = Field(128, description="pairs per forward pass, at most")
    temperature: PositiveFloat | None = Field(
        None, description="factor on the score; null: as the checkpoint says, 0.5 for an official one"
    )
    query_locals: Positive = Field(600, description="local descriptors of the query that are compared")
    gallery_locals: Positive = Field(600, description="local descriptors of each candidate that are compared")
    counts_padding: bool | None = Field(
        None,
        description="images with fewer are padded to these numbers, and padding has its share of the masses; null: as "
        "the checkpoint says, and as the official code does",
    )
    iterations: Positive | None = Field(None, description="of Sinkhorn's algorithm; null: as the checkpoint says, 10")
    sharpness: PositiveFloat | None = Field(
        None, description="factor on cosines in the transport; null: as the checkpoint says, 10"
    )
