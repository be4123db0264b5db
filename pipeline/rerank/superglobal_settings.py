"""Settings of the reranker `superglobal`: the section `rerank.superglobal`.

Beside the reranker. The defaults cost less R@1 on photos of products; the paper's are in `configs/`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.rerank.settings import RerankerSettings
from pipeline.settings import Fraction, Positive


class SuperGlobalSettings(RerankerSettings):
    """SuperGlobal's re-ranking (Shao et al., ICCV 2023, section 3.3)."""

    top: Positive = Field(400, description="M: candidates that are re-ranked")
    k: Positive = Field(9, description="K: neighbours that refine a descriptor")
    beta: Annotated[float, Field(ge=0)] = Field(1.0, description="factor on a neighbour's weight; the paper's is 0.15")
    power: Annotated[float, Field(gt=0)] = Field(
        8.0, description="a neighbour weighs beta * similarity^power; the paper's is 1"
    )
    expansion: Fraction = Field(0.15, description="share of the expanded query in the score; the paper's is 0.5")
    normalise: bool = Field(True, description="whether the expanded query gets unit length; the paper's does not")
    weight: Fraction | None = Field(0.3, description="of the global similarity in the fused score; the paper's is 0")
