"""What all trainings share: the settings of the one loop, the base of each training's section.

The defaults suit some thousand photos on a CPU; the papers' own figures are in `configs/train_*.yaml`, each with its
source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings import Fraction, Positive, PositiveFloat, Section

NotNegative = Annotated[float, Field(ge=0)]


class LoopConfig(Section):
    """How any network is trained."""

    out: Path | None = Field(
        None, description="the best checkpoint; the last one is beside it as NAME.last. null: a default place"
    )
    epochs: Positive = 6
    batch_size: Positive = Field(64, description="per step, over all processes")
    accumulate: Positive = Field(1, description="gradient accumulation steps per batch, to save memory")
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    momentum: Fraction = Field(0.9, description="of sgd")
    weight_decay: NotNegative = Field(0.05, description="on matrices; vectors and embeddings are not decayed")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="of the learning rate, after the warm-up"
    )
    warmup: Fraction = Field(0.05, description="share of all steps in which the learning rate rises")
    clip: PositiveFloat | None = Field(1.0, description="largest norm of the gradient; null: not clipped")
    average: Fraction = Field(
        0.99, description="decay of the moving average of the weights, per step; the average is validated and saved"
    )
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of matrix products and convolutions")
    patience: Positive | None = Field(
        None, description="epochs without a better validation before the run stops; null: never"
    )
    save_every: Positive = Field(
        200, description="steps between saved states, from which a killed run resumes; also every epoch"
    )
    trackers: tuple[Literal["wandb"], ...] = Field(
        (), description="in addition to TensorBoard; each needs the extra of its name"
    )
