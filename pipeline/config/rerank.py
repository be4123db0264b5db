"""The `rerank` section: the second look, one group of keys per reranker.

Read by the stages, which hand each group to `pipeline.rerank.load_reranker`. The defaults are those that
docs/results.md measures; the papers' own are in `configs/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.section import Fraction, Positive, PositiveFloat, Precision, Section


class SuperGlobalConfig(Section):
    """SuperGlobal's second look (Shao et al., ICCV 2023, section 3.3)."""

    top: Positive = Field(400, description="M: candidates looked at again")
    k: Positive = Field(9, description="K: neighbours that refine a descriptor")
    beta: Annotated[float, Field(ge=0)] = Field(1.0, description="factor on a neighbour's weight; the paper's is 0.15")
    power: Annotated[float, Field(gt=0)] = Field(
        8.0, description="a neighbour weighs beta * similarity^power; the paper's is 1"
    )
    expansion: Fraction = Field(0.15, description="share of the expanded query in the score; the paper's is 0.5")
    normalise: bool = Field(True, description="whether the expanded query gets unit length; the paper's does not")
    weight: Fraction = Field(0.3, description="of the global similarity in the fused score; the paper's is 0")


class PairConfig(Section):
    """What rerankers that compare pictures two by two have in common."""

    checkpoint: Path | None = Field(None, description="None: rerankers/NAME.safetensors of the index")
    top: Positive = Field(100, description="candidates looked at again")
    weight: Fraction | None = Field(None, description="of the global similarity; None: as tuned in training")
    precision: Precision = Field("float32", description="of products and convolutions")


class TransformerConfig(PairConfig):
    """What the transformers among them have in common."""

    batch_size: Positive = Field(128, description="pairs per forward pass, at most")


class RRTConfig(TransformerConfig):
    """The Reranking Transformer (Tan, Yuan, Ordonez, ICCV 2021)."""

    locals: Positive | None = Field(
        None,
        description="local descriptors compared per picture; None: as the checkpoint says, 500 for an official one",
    )
    scale_rule: Literal["official", "nearest"] | None = Field(
        None, description="entry of the scale table: as the official code finds it, or the nearest; None: as trained"
    )


class RRTSOPConfig(TransformerConfig):
    """The Reranking Transformer for products, of whole maps (Tan et al., ICCV 2021); the paper's weight is 0."""


class AMESConfig(TransformerConfig):
    """AMES (Suma et al., ECCV 2024): weight is the paper's lambda, temperature its gamma; its readme has values."""

    temperature: PositiveFloat | None = Field(
        None, description="factor on the logit; None: as the checkpoint says, 1 for an official one"
    )
    query_locals: Positive = Field(600, description="local descriptors of the query that are compared")
    gallery_locals: Positive = Field(50, description="and of each candidate")
    round_gallery: bool | None = Field(
        None, description="candidates' projected descriptors pass through float16; None: as the official code does"
    )


class CVNetConfig(PairConfig):
    """CVNet-Rerank (Lee et al., CVPR 2022)."""

    weight: Fraction | None = Field(
        None,
        description="of the global similarity; None: as tuned in training, 2/3 for an official one (the paper adds "
        "half the score to it)",
    )
    project: bool = Field(
        True,
        description="with the checkpoint's conv2ds, maps that were not when extracting; false: compared as they are",
    )


class RerankConfig(Section):
    """The second look: rerankers by name, applied one after the other."""

    chain: tuple[str, ...] = Field(
        ("superglobal",), description="names, applied in order; where it is not set, those that the index names"
    )
    superglobal: SuperGlobalConfig = SuperGlobalConfig()
    rrt: RRTConfig = RRTConfig()
    rrt_sop: RRTSOPConfig = RRTSOPConfig()
    ames: AMESConfig = AMESConfig()
    cvnet: CVNetConfig = CVNetConfig()
