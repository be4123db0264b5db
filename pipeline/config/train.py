"""The sections of training: the one loop's settings, and what `train-global` and `train-rerank` add to them.

Read by `pipeline.train` and its two verbs. The defaults suit some thousand photos on a CPU; the papers' own figures are
in `configs/train_*.yaml`, each with its source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.section import Fraction, Positive, PositiveFloat, Section

NotNegative = Annotated[float, Field(ge=0)]


class LoopConfig(Section):
    """How any network is trained."""

    out: Path | None = Field(None, description="the best checkpoint; the last one lies beside it as NAME.last")
    epochs: Positive = 6
    batch_size: Positive = Field(64, description="per step, over all processes")
    accumulate: Positive = Field(1, description="parts in which a batch passes the network, to save memory")
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    momentum: Fraction = Field(0.9, description="of sgd")
    weight_decay: NotNegative = Field(0.05, description="of matrices; vectors and embeddings do not decay")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="of the rate, after the warm-up")
    warmup: Fraction = Field(0.05, description="of all steps, in which the rate rises")
    clip: PositiveFloat | None = Field(1.0, description="largest norm of the gradient; null: any")
    average: Fraction = Field(
        0.99, description="of the moving average of the weights, per step; what is validated and kept"
    )
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of products and convolutions")
    patience: Positive | None = Field(None, description="epochs without a better validation that end a run")
    save_every: Positive = Field(200, description="steps after which a killed run can go on; and every epoch")
    trackers: tuple[Literal["wandb"], ...] = Field((), description="beside TensorBoard; each is an extra of its name")


class RRTModelConfig(Section):
    """A Reranking Transformer that is trained here; the paper's has 6 layers, 1024 and 500 locals."""

    start: Literal["comparing", "paper"] = Field(
        "comparing", description="what suits few photos (docs/training.md), or random weights and all of it learnt"
    )
    heads: Positive = 4
    layers: Positive = 2
    feedforward: Positive = 256
    dropout: Fraction = 0.0
    locals: Positive = Field(16, description="how many local descriptors of each picture it compares")
    shrinkage: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="of the within-class covariance that projects the globals"
    )


class TrainRerankConfig(LoopConfig):
    """How `train-rerank` learns from the store's own candidates."""

    reranker: str = "rrt"
    split: str | None = Field(None, description="learn from this split only; None: from every labelled picture")
    hold_out: Literal["labels", "sessions"] = Field(
        "labels", description="what chooses epoch and weight: labels never learnt from, or new pictures of learnt ones"
    )
    validation: Fraction = Field(0.2, description="of the labels, or of each label's pictures, held out")
    validation_queries: Positive = Field(100, description="at most so many held-out pictures are searched per epoch")
    candidates: Positive = Field(100, description="negatives come from so many of the store's first answers")
    triplets: Positive = Field(6400, description="per epoch; batch_size counts them")
    rrt: RRTModelConfig = RRTModelConfig()
