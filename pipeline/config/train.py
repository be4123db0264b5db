"""The sections of training: the one loop's settings, and what `train-global` and `train-rerank` add to them.

Read by `pipeline.train` and its two verbs. The defaults suit some thousand photos on a CPU; the papers' own figures are
in `configs/train_*.yaml`, each with its source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.near_equal import NEAR_EQUAL
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


class AugmentConfig(Section):
    """How a training picture is changed each time it is seen."""

    size: Positive = Field(224, description="side of the square network input, in pixels")
    area: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.4, 1.0), description="share of the image in the random crop; DELG's code for GLDv2 has 0.08 to 1"
    )
    aspect: tuple[PositiveFloat, PositiveFloat] = Field((3 / 4, 4 / 3), description="aspect ratio of the crop")
    flip: Fraction = Field(0.5, description="probability of a horizontal flip")
    jitter: NotNegative = Field(0.3, description="largest change of brightness, contrast and saturation, as a share")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.05, description="largest rotation of the hue, of a full circle"
    )
    lighting: NotNegative = Field(
        0.0, description="standard deviation of AlexNet's colour noise along ImageNet's axes; DELG's code has 0.1"
    )
    views: Positive | None = Field(
        None,
        description="augmented copies of each image that pass the frozen parts once and are cached; null: no cache",
    )
    views_folder: Path | None = Field(
        None, description="where they are cached for other runs; null: beside the checkpoint, removed at the end"
    )


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
        description="initialisation of the new linear layer: a within-class whitening in closed form, or random",
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


class AdaptConfig(Section):
    """How `adapt` mines pairs of photos and learns from them, without labels."""

    out: Path | None = Field(
        None, description="the checkpoint; verified pairs are kept beside it. null: describers/NAME-adapted.safetensors"
    )
    veto: Path | None = Field(
        None, description="a text file with an image id a line: groups with such an image teach nothing; null: none"
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
