"""The section of `adapt`.

Read by `pipeline.train.mining`, `pipeline.train.adaptation` and the verb.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.config.near_equal import NEAR_EQUAL
from pipeline.settings import Positive, PositiveFloat, Section


class AdaptConfig(Section):
    """How `adapt` mines pairs of photos and learns from them, without labels."""

    out: Path | None = Field(
        None, description="the checkpoint; verified pairs are kept beside it. null: describers/NAME-adapted.safetensors"
    )
    veto: Path | None = Field(
        None, description="a text file with an image id a line: groups with such an image teach nothing; null: none"
    )
    answers: Path | None = Field(
        None, description="what a person said of pairs in `relook label`, surer than any match; null: nothing is read"
    )
    labels: Path | None = Field(
        None, description="a manifest that the groups are written into as labels, for the training verbs; null: none"
    )
    neighbours: Positive = Field(8, description="nearest photos of each photo that are verified")
    duplicates: Annotated[float, Field(gt=0, le=1)] = Field(
        NEAR_EQUAL, description="cosine from which photos count as one, as in relook duplicates"
    )
    keypoints: Positive = Field(512, description="keypoints compared per image, the strongest")
    least: PositiveFloat = Field(
        20.0, description="least support of a pair that joins photos; half of it teaches (docs/matching.md)"
    )
    dimension: Positive = Field(256, description="values of the adapted descriptor, at most those that it has")
    folds: Annotated[int, Field(ge=2)] = Field(4, description="parts of groups and of photos, for validation")
    groups: Annotated[int, Field(ge=4)] = Field(8, description="fewest groups that anything is learnt from")
    pairs: Positive = Field(30, description="fewest verified pairs that anything is learnt from")
