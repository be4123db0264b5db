"""Settings of the reranker `cvnet`: the section `rerank.cvnet`.

Beside the reranker; imports no network.
"""

from __future__ import annotations

from pydantic import Field

from pipeline.rerank.settings import PairSettings
from pipeline.settings import Fraction


class CVNetSettings(PairSettings):
    """CVNet-Rerank (Lee et al., CVPR 2022)."""

    weight: Fraction | None = Field(
        None,
        description="of the global similarity; null: as tuned in training, 2/3 for an official one (the paper adds "
        "half the score to it)",
    )
    project: bool = Field(
        True,
        description="project maps that were not projected at extraction, with the checkpoint's conv2ds; false: never",
    )
