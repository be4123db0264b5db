"""Settings that rerankers share: how many candidates, the fusion weight, checkpoints of networks.

Below the settings of each reranker, which lie beside it; the configuration's section `rerank` is made of them. Imports
no network, so that a configuration is read without one. The defaults are those that docs/results.md measures; the
papers' own are in `configs/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.settings import Fraction, Positive, Precision, Section


class RerankerSettings(Section):
    """Settings of every reranker; those of one may have others as well, which its loader takes as options."""

    top: Positive = Field(100, description="candidates that are re-ranked")
    weight: Fraction | None = Field(None, description="of the global similarity; null: as tuned in training")
    margin: Annotated[float, Field(ge=0)] | None = Field(
        None, description="only candidates whose score is at most this far below the second one's; null: all of top"
    )


class TrainedSettings(RerankerSettings):
    """Settings of rerankers with weights of their own."""

    checkpoint: Path | None = Field(None, description="null: rerankers/NAME.safetensors of the index")
    top: Positive = Field(100, description="candidates that are re-ranked")
    weight: Fraction | None = Field(None, description="of the global similarity; null: as tuned in training")
    precision: Precision = Field("float32", description="of matrix products and convolutions")


class PairSettings(TrainedSettings):
    """Settings of rerankers that compare images two by two."""


class TransformerSettings(PairSettings):
    """Settings of transformers that compare local descriptors."""

    batch_size: Positive = Field(128, description="pairs per forward pass, at most")
