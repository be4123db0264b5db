"""The section of `train-rerank`: the one loop's settings, and those of each reranker that learns.

Read by `pipeline.train.rerankers` and the verb.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.augment import AugmentConfig
from pipeline.config.train_loop import LoopConfig, NotNegative
from pipeline.settings import Fraction, Positive, PositiveFloat, Section


class RRTModelConfig(Section):
    """A Reranking Transformer that is trained here; the paper's has 6 layers, 1024 and 500 locals."""

    start: Literal["comparing", "paper"] = Field(
        "comparing", description="comparing: an initialisation for few photos (docs/training.md); paper: random weights"
    )
    heads: Positive = 4
    layers: Positive = 2
    feedforward: Positive = 256
    dropout: Fraction = 0.0
    locals: Positive = Field(16, description="local descriptors of each image that are compared")
    shrinkage: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="of the within-class covariance that projects the globals"
    )


class CVNetModelConfig(Section):
    """A CVNet-Rerank that is trained here, of the paper's size; pairs of numbers are of the training's start and end.

    The paper says that both shares grow and that the hardest are ten; no training code was released.
    """

    hardest: Positive = Field(10, description="hard negatives: the first candidates of other labels (the paper's)")
    hard: tuple[Fraction, Fraction] = Field(
        (0.0, 0.5), description="share of hard negatives; the others are drawn from all candidates"
    )
    hide: tuple[Fraction, Fraction] = Field(
        (0.0, 0.3), description="probability that a cell of a map is hidden (Hide-and-Seek)"
    )
    project: bool = Field(
        False, description="train the paper's 3x3 convolutions too, for maps that an index keeps unprojected"
    )
    channels: Positive = Field(256, description="output channels of these convolutions, as in the paper")


class AMESModelConfig(Section):
    """An AMES that is trained here; the authors' has 5 layers, 1024, and draws from 10 to 399 descriptors."""

    start: Literal["comparing", "paper"] = Field(
        "comparing", description="comparing: an initialisation for few photos (docs/training.md); paper: random weights"
    )
    turning: bool = Field(
        False, description="rotate the projected descriptors at random in each step; for a dozen labels or fewer"
    )
    model_dim: Positive = Field(128, description="dimension of a token, and bits of a binarised descriptor")
    heads: Positive = 2
    layers: Positive = Field(2, description="at least two from the comparing start")
    feedforward: Positive = 256
    least_locals: Positive = Field(10, description="fewest local descriptors of either image in a step")
    query_locals: Positive = Field(
        50, description="most local descriptors of the anchor; the number is drawn for each step"
    )
    gallery_locals: Positive = Field(50, description="most local descriptors of the other image, drawn separately")
    shrinkage: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="of the within-class covariance that projects the locals; of the comparing start"
    )
    binarised: bool = Field(False, description="train binary descriptors from a teacher of full precision")
    teacher: Path | None = Field(None, description="checkpoint of the teacher, from train-rerank or official")
    distillation: NotNegative = Field(10.0, description="weight of the squared error between its tokens and the bits'")
    variance: PositiveFloat = Field(1e-6, description="of the noise on the bits in training")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.start == "comparing" and self.layers < 2:
            raise ValueError("layers = 1; the comparing start needs two, or set start = paper")
        if self.least_locals > min(self.query_locals, self.gallery_locals):
            raise ValueError(f"least_locals = {self.least_locals} is more than query_locals or gallery_locals")
        return self


class ELViSModelConfig(Section):
    """An ELViS that is trained here; the authors' draws from 100 to 399 descriptors."""

    start: Literal["centred", "paper"] = Field(
        "centred", description="centred: a PCA of the descriptors, for few photos; paper: a random projection"
    )
    model_dim: Positive = Field(128, description="dimension of a projected descriptor")
    embed_dim: Positive = Field(16, description="hidden values of the perceptron that turns a match into a vote")
    proj_dim: Positive = Field(64, description="hidden values of the perceptron that turns the sum into a logit")
    iterations: Positive = Field(10, description="of Sinkhorn's algorithm")
    sharpness: PositiveFloat = Field(10.0, description="factor on cosines in the transport")
    least_locals: Positive = Field(10, description="fewest local descriptors of either image in a step")
    query_locals: Positive = Field(
        50, description="most local descriptors of the anchor; the number is drawn for each step"
    )
    gallery_locals: Positive = Field(50, description="most local descriptors of the other image, drawn separately")
    counts_padding: bool = Field(
        False,
        description="padding of images with fewer descriptors has its share of the masses, as in the authors' code",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.least_locals > min(self.query_locals, self.gallery_locals):
            raise ValueError(f"least_locals = {self.least_locals} is more than query_locals or gallery_locals")
        return self


class RRTSOPJointConfig(Section):
    """The product transformer and its describer trained together, from photos (Tan et al., ICCV 2021: fine-tuned)."""

    start: Path | None = Field(
        None, description="an rrt_sop trained on the index, to start from; null: as without the describer"
    )
    freeze: Annotated[int, Field(ge=0)] | Literal["all"] = Field(
        6, description="backbone parts, from the input, that are frozen; all: only the reduction of the map is trained"
    )
    batch_norm: Literal["frozen", "learnt"] = Field("frozen", description="batch statistics of the trained parts")
    rate: PositiveFloat = Field(0.1, description="factor on the learning rate of the describer; the paper's is 1")
    contrast: NotNegative = Field(
        1.0, description="weight of the contrastive loss on global descriptors; the paper has none in this step"
    )
    temperature: PositiveFloat = Field(
        0.05, description="of that loss, as in the paper's training of global descriptors"
    )
    checkpointing: bool = Field(False, description="recompute activations in the backward pass, to save memory")
    augment: AugmentConfig = AugmentConfig()


class RRTSOPModelConfig(Section):
    """A Reranking Transformer for products that is trained here; the paper's has 6 layers and 1024."""

    start: Literal["comparing", "paper"] = Field(
        "comparing",
        description="comparing: for few photos (docs/training.md); paper: random weights, maps unprojected",
    )
    heads: Positive = 4
    layers: Positive = 2
    feedforward: Positive = 256
    dropout: Fraction = 0.0
    width: Positive = Field(128, description="of tokens; wider maps are projected to it; not with start = paper")
    shrinkage: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="of the within-class covariance that projects the maps; not with start = paper"
    )
    joint: RRTSOPJointConfig | None = Field(
        None, description="train the describer as well; null: only the reranker, from the maps of the index"
    )


class LoCoReModelConfig(Section):
    """A LoCoRe that is trained here; the released one has 12 layers, 768, 48 locals and 100 candidates."""

    start: Literal["comparing", "paper"] = Field(
        "comparing", description="comparing: an initialisation for few photos; paper: random weights"
    )
    width: Positive = Field(128, description="of tokens, to which all descriptors are projected")
    heads: Positive = 4
    layers: Positive = 2
    feedforward: Positive = 256
    window: Positive = Field(64, description="neighbours that a token attends to, beside the tokens that all see")
    positions: Literal["absolute", "segment", "no"] = Field(
        "segment", description="of tokens in the sequence (as released), of images in the list, or none"
    )
    locals: Positive = Field(16, description="local descriptors of each image that are compared")
    candidates: Positive = Field(30, description="in a list, and in a window of a search")
    positives: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="share of a list that is of the query's label, at most"
    )
    aggregation: Literal["max-start", "max-end", "max-sum", "max-prod", "mean"] = Field(
        "mean", description="score of a candidate from its tokens; the released one's is max-end"
    )
    shrinkage: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="of the within-class covariances that project the descriptors; of the comparing start"
    )


class TrainRerankConfig(LoopConfig):
    """How `train-rerank` learns from the store's own candidates."""

    reranker: str = "rrt"
    split: str | None = Field(None, description="train on this split only; null: on every labelled image")
    labels: Literal["complete", "groups"] = Field(
        "complete",
        description="groups: of adapt or label; photos of two groups may show one thing, those of none anything",
    )
    hold_out: Literal["labels", "sessions"] = Field(
        "labels", description="validation by labels that are not trained on, or by other sessions of trained labels"
    )
    validation: Fraction = Field(0.2, description="share of the labels, or of each label's images, that is held out")
    validation_queries: Positive = Field(100, description="most held-out images that are queries in a validation")
    weight_rule: Literal["best", "cautious"] = Field(
        "best",
        description="weight of the global score: of the best validation, or the largest that is no worse by one "
        "standard error, for photos of another kind",
    )
    candidates: Positive = Field(100, description="candidates of the store that negatives are drawn from")
    triplets: Positive = Field(6400, description="per epoch; batch_size counts them; of locore whole lists")
    rrt: RRTModelConfig = RRTModelConfig()
    cvnet: CVNetModelConfig = CVNetModelConfig()
    ames: AMESModelConfig = AMESModelConfig()
    elvis: ELViSModelConfig = ELViSModelConfig()
    rrt_sop: RRTSOPModelConfig = RRTSOPModelConfig()
    locore: LoCoReModelConfig = LoCoReModelConfig()
