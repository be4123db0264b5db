"""Settings of the classics: the sections `rerank.average_qe`, `alpha_qe`, `dba`, `k_reciprocal` and `diffusion`.

Beside the rerankers; imports no network. The defaults suit collections with few photos of each thing; others
are in docs/rerankers/classics.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.rerank.settings import RerankerSettings
from pipeline.settings import Fraction, Positive, PositiveFloat

NotNegative = Annotated[float, Field(ge=0)]


class ClassicSettings(RerankerSettings):
    """Settings of rerankers that compare global descriptors with each other."""

    top: Positive = Field(400, description="candidates that are re-ranked")


class ExpansionSettings(ClassicSettings):
    """Settings of query expansion; the expanded query is searched again."""

    weight: Fraction | None = Field(0.0, description="of the global similarity in the fused score")
    k: Positive = Field(2, description="images that expand the query, the first of the list")
    neighbours: Literal["list", "matching"] = Field(
        "list",
        description="what expands: the first images of the list, or those that `matching` before it verified",
    )
    verified: Fraction = Field(
        0.4, description="neighbours = matching: the least score of matching; 0.4 is a sum of confidences of 15 of 1024"
    )


class AverageQESettings(ExpansionSettings):
    """Average query expansion (Chum et al., ICCV 2007)."""


class AlphaQESettings(ExpansionSettings):
    """Alpha query expansion (Radenovic et al., TPAMI 2019)."""

    alpha: NotNegative = Field(3.0, description="an image weighs similarity^alpha, verified ones score^alpha")


class NeighbourhoodSettings(ClassicSettings):
    """Settings of rerankers that compare the candidates with each other."""

    reach: Annotated[int, Field(ge=0)] = Field(
        10, description="the neighbours of this many of the first candidates join the list; 0: none"
    )


class DBASettings(NeighbourhoodSettings):
    """Database augmentation (Gordo et al., IJCV 2017)."""

    weight: Fraction | None = Field(0.0, description="of the global similarity in the fused score")
    k: Positive = Field(3, description="images that a candidate is averaged with, itself included")


class KReciprocalSettings(NeighbourhoodSettings):
    """k-reciprocal re-ranking (Zhong et al., CVPR 2017)."""

    weight: Fraction | None = Field(0.5, description="lambda: of the global similarity in the fused score")
    k1: Positive = Field(4, description="neighbours of which the reciprocal ones are kept")
    k2: Positive = Field(2, description="neighbours over which the encodings are averaged; 1: not averaged")


class DiffusionSettings(NeighbourhoodSettings):
    """Diffusion on the graph of mutual neighbours (Iscen et al., CVPR 2017)."""

    weight: Fraction | None = Field(0.7, description="of the global similarity in the fused score")
    k: Positive = Field(4, description="neighbours of an image, of which the mutual ones are joined")
    query_k: Positive = Field(1, description="neighbours of the query, where the diffusion starts")
    gamma: PositiveFloat = Field(3.0, description="an edge weighs similarity^gamma")
    alpha: Annotated[float, Field(gt=0, lt=1)] = Field(0.9, description="how far the diffusion goes")
    iterations: Positive = Field(20, description="of conjugate gradients, at most")
