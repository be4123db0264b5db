"""The section of `train-global`: the one loop's settings, and what a global descriptor adds to them.

Read by `pipeline.train.global_descriptor` and the verb.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.augment import AugmentConfig
from pipeline.config.train_loop import LoopConfig, NotNegative
from pipeline.settings import Fraction, Positive, PositiveFloat, Section


class ClassificationConfig(Section):
    """Softmax over the labels' prototypes; CVNet-Global's figures are scale 30 and margin 0.15."""

    name: Literal["curricularface", "arcface", "subcenter_arcface", "softmax"] = "curricularface"
    scale: PositiveFloat = Field(30.0, description="factor on the cosines")
    margin: NotNegative = Field(0.15, description="radians added to the angle of the positive; not for softmax")
    momentum: Fraction = Field(0.01, description="of curricularface's moving average; its paper writes 0.99")
    centres: Positive = Field(3, description="per label, of subcenter_arcface")
    weight: NotNegative = Field(1.0, description="in the sum of the losses")


class ContrastConfig(Section):
    """Momentum contrast with labels (CVNet-Global: queue 73728, momentum 0.999, temperature 1/30, margin 0.15)."""

    weight: NotNegative = Field(1.0, description="in the sum of the losses; 0: no momentum encoder")
    queue: Positive = Field(2048, description="length of the queue of descriptors of the momentum encoder")
    momentum: Fraction = Field(0.99, description="of the momentum encoder, per step")
    ramp: bool = Field(True, description="momentum is at most n / (n + 9) in step n, for short trainings")
    temperature: PositiveFloat = 1 / 30
    margin: NotNegative = Field(0.15, description="radians, as in the classification")


class LocalsLossConfig(Section):
    """DELG's attention and autoencoder (Cao et al., ECCV 2020, section 3.3), for delg_r50 and delg_r101."""

    attention: NotNegative = Field(1.0, description="weight of the classification by attended local descriptors")
    reconstruction: NotNegative = Field(10.0, description="weight of the autoencoder's squared error")


class TrainGlobalConfig(LoopConfig):
    """How `train-global` learns a global descriptor from labelled photos."""

    epochs: Positive = 4
    learning_rate: PositiveFloat = 3e-4
    weight_decay: NotNegative = Field(1e-4, description="on matrices; vectors and embeddings are not decayed")
    clip: PositiveFloat | None = Field(5.0, description="largest norm of the gradient; null: not clipped")
    split: str | None = Field(None, description="train on this split only; null: on every labelled image")
    validation_split: str | None = Field(None, description="split that chooses the epoch; null: a part is held out")
    hold_out: Literal["labels", "photos"] = Field(
        "labels", description="validation by labels that are not trained on, or by random images of every label"
    )
    validation: Fraction = Field(
        0.2, description="share of the labels, or of the images, that is held out; 0: the last epoch is kept"
    )
    validation_photos: Positive = Field(500, description="most images that are described in a validation")
    start: Path | None = Field(
        None, description="weights of a published model's backbone with timm's keys; null: ImageNet's, from timm's hub"
    )
    dimension: Positive | None = Field(512, description="of the linear layer after pooling; null: none is added")
    head_start: Literal["whitened", "random"] = Field(
        "whitened",
        description="whitened: a new linear layer starts as a within-class whitening in closed form, prototypes as the "
        "means of their labels; random: both",
    )
    shrinkage: Annotated[float, Field(gt=0, le=1)] = Field(0.3, description="of the covariance of that whitening")
    freeze: Annotated[int, Field(ge=0)] = Field(6, description="backbone parts, from the input, that are frozen")
    batch_norm: Literal["frozen", "learnt"] = Field("frozen", description="batch statistics of the trained parts")
    part_rate: Fraction = Field(1.0, description="factor on the learning rate from each part to the one before")
    head_rate: PositiveFloat = Field(1.0, description="factor on the learning rate of heads and prototypes")
    checkpointing: bool = Field(False, description="recompute activations in the backward pass, to save memory")
    per_label: Positive | None = Field(
        None, description="images of each label in a batch; null: images in random order"
    )
    augment: AugmentConfig = AugmentConfig()
    classification: ClassificationConfig = ClassificationConfig()
    contrast: ContrastConfig = ContrastConfig()
    locals: LocalsLossConfig = LocalsLossConfig()
