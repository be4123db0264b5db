"""The section of `train-detector`: the one loop's settings, and what AMES's detector adds to them.

Read by `pipeline.train.detector` and the verb.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.config.train_loop import LoopConfig, NotNegative
from pipeline.settings import Fraction, Positive, PositiveFloat


class TrainDetectorConfig(LoopConfig):
    """How `train-detector` learns AMES's detector from whole maps of an index."""

    epochs: Positive = 6
    batch_size: Positive = Field(32, description="triplets per step, over all processes")
    learning_rate: PositiveFloat = 3e-4
    weight_decay: NotNegative = Field(1e-4, description="on matrices and kernels; vectors are not decayed")
    average: Fraction = Field(
        0.0,
        description="decay of the moving average of the weights, per step; batch statistics are not averaged",
    )
    start: Literal["cells", "paper"] = Field(
        "cells",
        description="cells: descriptors and weights start as the map's own, for few photos; paper: random weights",
    )
    margin: PositiveFloat = Field(0.1, description="of the triplet loss, on squared distances of unit vectors")
    split: str | None = Field(None, description="train on this split only; null: on every labelled image")
    validation: Fraction = Field(0.2, description="share of the labels that is held out")
    candidates: Positive = Field(100, description="candidates of the store that negatives are drawn from")
    triplets: Positive = Field(3200, description="per epoch; batch_size counts them")
