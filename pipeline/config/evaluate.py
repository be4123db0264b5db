"""The section `evaluate`: queries, protocol and report of an evaluation.

Read by `evaluate`. A file of `configs/` that fixes `dataset` and `report` makes a benchmark one command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.config.paths import SOURCE
from pipeline.settings import Section

# Splits that figures are reported on: nothing may be chosen there.
TEST_SPLITS = frozenset({"test", "private"})


class EvaluateConfig(Section):
    """What `evaluate` measures."""

    dataset: Annotated[str | None, SOURCE] = Field(
        None,
        description="a manifest or NAME:FOLDER, extracted where the index lacks it; null: the labels of the index",
    )
    protocol: str | None = Field(
        None,
        description="labels, revisited, revisited_published, gldv2, gldv2_recognition, products, classes or ilias; "
        "null: the data set's own",
    )
    split: str | None = Field(
        None,
        description="only this split of queries and gallery; of a data set with its own queries, of the queries; "
        "null: everything",
    )
    validation: str = Field("val", description="the only split that --sweep uses")
    report: Path | None = Field(None, description="a folder for evaluation.json, .csv and .md; null: none is written")
    fill: bool = Field(
        False, description="sync a hosted store with the index first, which costs money; others are synced as needed"
    )
    timed: Annotated[int, Field(ge=0)] = Field(
        32, description="queries that run one at a time, to measure the latency of each"
    )

    @model_validator(mode="after")
    def _nothing_is_chosen_on_a_test(self) -> Self:
        if self.validation in TEST_SPLITS:
            raise ValueError(f"validation = {self.validation}: figures are reported on that split, not chosen")
        return self
