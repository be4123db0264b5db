"""The section `evaluate`: what is asked, by which protocol, and what is kept of it.

Read by `evaluate`. A file of `configs/` that fixes `dataset` and `report` makes a benchmark one command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.config.section import Section

# Splits that figures are reported on: nothing may be chosen there.
TEST_SPLITS = frozenset({"test", "private"})


class EvaluateConfig(Section):
    """What `evaluate` measures."""

    dataset: str | None = Field(
        None, description="a manifest or NAME:FOLDER, extracted where it is not yet; null: the index with its labels"
    )
    protocol: str | None = Field(
        None,
        description="labels, revisited, revisited_published, gldv2, gldv2_recognition, products, classes or ilias; "
        "null: the data set's own",
    )
    split: str | None = Field(
        None,
        description="queries and gallery are this split only; of a data set with queries of its own, the queries; "
        "null: everything",
    )
    validation: str = Field("val", description="the one split that --sweep may look at")
    report: Path | None = Field(None, description="a folder for evaluation.json, .csv and .md")
    timed: Annotated[int, Field(ge=0)] = Field(
        32, description="so many queries are asked one at a time, which gives the milliseconds of each"
    )

    @model_validator(mode="after")
    def _nothing_is_chosen_on_a_test(self) -> Self:
        if self.validation in TEST_SPLITS:
            raise ValueError(f"validation = {self.validation}: figures are reported on that split, not chosen")
        return self
