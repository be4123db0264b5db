"""One typed model of a run, read from a YAML file and overridden by `--set a.b=c`.

Every stage takes a `Config`; every field says what it means, and an unknown key is an error with the nearest known one.
The defaults are the set-up that README and docs/results.md measure; `configs/default.yaml` writes them out.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import UsageError

# A value such as 2020-13-45 looks like a date and raises ValueError; endless nesting raises RecursionError.
YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError)

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Precision = Literal["float32", "bfloat16", "float16"]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class CatalogConfig(_Section):
    """Which images exist."""

    labels: Literal["none", "folder"] = Field("none", description="for a folder: no labels, or the parent folder")


class ImageConfig(_Section):
    """How a picture becomes what the network reads. None: what the backbone was trained with."""

    size: Positive = Field(320, description="pixels, what the resize rule aims at")
    resize: Literal["area", "short", "long", "exact", "none"] = Field(
        "area",
        description="area: size^2 pixels, aspect kept; short/long: that side; exact: a square; none: as the file is",
    )
    max_side: Positive | None = Field(None, description="a longer side is resized to this, whatever the rule")
    multiple: Positive | None = Field(None, description="sides are rounded to multiples of this")
    crop: Positive | None = Field(None, description="side of a central square cut out after resizing")
    interpolation: Literal["bilinear", "bicubic", "lanczos", "box", "opencv"] = Field(
        "bicubic",
        description="Pillow's, antialiased; opencv: cv2.resize by a factor, area to shrink and bilinear to enlarge",
    )
    scaling: Literal["picture", "tensor"] = Field(
        "picture", description="what further scales resize: the picture, or the normalised tensor (SuperGlobal)"
    )
    antialias: bool = Field(True, description="of scaling = tensor; torchvision before 0.17 had none")
    channels: Literal["rgb", "bgr"] = Field("rgb", description="order in which the network reads them")
    mean: tuple[float, float, float] | None = Field(None, description="per RGB channel, of values in [0, 1]")
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = Field(
        None, description="per RGB channel, of values in [0, 1]"
    )
    max_pixels: Positive = Field(200_000_000, description="larger pictures are refused before they are decoded")
    max_bytes: Positive = Field(500_000_000, description="larger files are refused before they are read")

    @model_validator(mode="after")
    def _opencv_resizes_by_a_factor(self) -> Self:
        if self.interpolation == "opencv" and self.resize != "none":
            raise ValueError(f"interpolation = opencv resizes by a factor: it needs resize = none, not {self.resize}")
        return self


class GlobalsConfig(_Section):
    """One descriptor per picture."""

    p: PositiveFloat | Literal["learned"] = Field(
        1.0, description="exponent of GeM: 1 is the average; learned: the checkpoint's pool.p"
    )
    scales: tuple[PositiveFloat, ...] = Field(
        (0.7071, 1.0, 1.4142), min_length=1, description="descriptors of several sizes are averaged"
    )
    whiten: Positive | None = Field(None, description="PCA-whiten to so many dimensions, fitted on the gallery")


class SuperGlobalModulesConfig(_Section):
    """SuperGlobal's pooling (Shao et al., ICCV 2023, section 3.2) in place of plain GeM."""

    gemp: bool = Field(True, description="GeM+: exponent 4.6 instead of the checkpoint's")
    rgem: bool = Field(True, description="Regional-GeM before pooling")
    sgem: bool = Field(True, description="Scale-GeM: the maximum over scales instead of the mean")
    relup: bool = Field(True, description="ReLUP: ReLUs after blocks cut at 0.014 instead of 0")
    relup_inside: bool = Field(
        True, description="ReLUP inside stage 1 too; the official code does so even when relup is off"
    )


class LocalsConfig(_Section):
    """Many descriptors per picture, for rerankers that compare part by part."""

    count: Annotated[int, Field(ge=0)] = Field(50, description="how many per picture; 0: none at all")
    stored: Positive | None = Field(
        None, description="how many of them the index keeps; null: all. A query is compared by all (AMES: 600 and 50)"
    )
    kind: Literal["strongest", "attention", "map"] = Field(
        "strongest",
        description="cells of largest norm; of largest learnt attention; or a whole map, row by row, as it is",
    )
    stage: int | Literal["final"] = Field("final", description="index of the backbone's stage, or its last map")
    pre_relu: bool = Field(False, description="the stage's map before its last ReLU (ResNets)")
    scales: tuple[PositiveFloat, ...] = Field((0.7071, 1.0, 1.4142), min_length=1)
    threshold: Annotated[float, Field(ge=0)] = Field(0.0, description="weaker ones are left out (kind: attention)")
    dimension: Positive | None = Field(128, description="reduced to this by a PCA fitted on the gallery; null: not")
    projection: Path | None = Field(
        None, description="an AMES checkpoint whose projection is applied when extracting: 128 values, or as many bits"
    )
    geometry: bool = Field(True, description="keep place, scale and weight beside each descriptor (16 bytes)")


class MapsConfig(_Section):
    """Whole maps per picture, for the reranker cvnet."""

    levels: tuple[PositiveFloat, ...] = Field((), description="shares of the map's cells, such as 0.25, 0.5, 1")
    stage: int | Literal["final"] = Field("final", description="index of the backbone's stage, or its last map")
    pre_relu: bool = Field(False, description="the stage's map before its last ReLU (ResNets)")
    projection: Literal["checkpoint", "pca", "none"] = Field(
        "pca", description="to fewer channels: by the checkpoint's conv2ds (CVNet), by a fitted PCA, or not at all"
    )
    dimension: Positive = Field(256, description="channels that the PCA keeps")


class DescribeConfig(_Section):
    """What turns pictures into descriptors. A paper's describer has its own defaults (configs/)."""

    name: str = Field("efficientnet_lite0", description="a registry name, or any timm model")
    weights: Literal["pretrained", "random"] = "pretrained"
    checkpoint: Path | None = Field(None, description="a local file of weights, relook's or official")
    fit_from: Path | None = Field(None, description="an index whose fitted projections are used again")
    fit_images: Positive = Field(128, description="pictures that the projections are fitted on")
    precision: Precision = Field("float32", description="of the network")
    image: ImageConfig = ImageConfig()
    globals: GlobalsConfig = GlobalsConfig()
    superglobal: SuperGlobalModulesConfig | None = Field(None, description="null: plain GeM")
    locals: LocalsConfig = LocalsConfig()
    maps: MapsConfig = MapsConfig()


class ExtractConfig(_Section):
    """How extraction is run; nothing here changes a descriptor."""

    batch_size: Positive | None = Field(None, description="pictures per forward pass; None: 2 on a CPU, 64 on CUDA")
    workers: Positive | None = Field(None, description="threads that read and decode; None: one per core, 16 at most")
    part_size: Positive = Field(1024, description="pictures per committed part: at most so many are lost by a kill")


class StoreConfig(_Section):
    """Where global descriptors are searched."""

    kind: str = Field("table", description="table (Parquet) or csv: the index's own tables, searched exactly")


class SuperGlobalConfig(_Section):
    """SuperGlobal's second look (Shao et al., ICCV 2023, section 3.3)."""

    top: Positive = Field(400, description="M: candidates looked at again")
    k: Positive = Field(9, description="K: neighbours that refine a descriptor")
    beta: Annotated[float, Field(ge=0)] = Field(1.0, description="factor on a neighbour's weight; the paper's is 0.15")
    power: Annotated[float, Field(gt=0)] = Field(
        8.0, description="a neighbour weighs beta * similarity^power; the paper's is 1"
    )
    expansion: Fraction = Field(0.15, description="share of the expanded query in the score; the paper's is 0.5")
    normalise: bool = Field(True, description="whether the expanded query gets unit length; the paper's does not")
    weight: Fraction = Field(0.3, description="of the global similarity in the fused score; the paper's is 0")


class RRTConfig(_Section):
    """The Reranking Transformer (Tan, Yuan, Ordonez, ICCV 2021)."""

    checkpoint: Path | None = Field(None, description="None: rerankers/rrt.safetensors of the index")
    top: Positive = Field(100, description="candidates looked at again")
    weight: Fraction | None = Field(None, description="of the global similarity; None: as tuned in training")
    batch_size: Positive = Field(128, description="pairs per forward pass")
    precision: Precision = Field("float32", description="of the transformer")
    locals: Positive | None = Field(
        None,
        description="local descriptors compared per picture; None: as the checkpoint says, 500 for an official one",
    )


class RRTSOPConfig(_Section):
    """The Reranking Transformer for products, of whole maps (Tan, Yuan, Ordonez, ICCV 2021)."""

    checkpoint: Path | None = Field(None, description="None: rerankers/rrt_sop.safetensors of the index")
    top: Positive = Field(100, description="candidates looked at again")
    weight: Fraction | None = Field(
        None, description="of the global similarity; None: as tuned in training; the paper's is 0"
    )
    batch_size: Positive = Field(128, description="pairs per forward pass")
    precision: Precision = Field("float32", description="of the transformer")


class AMESConfig(_Section):
    """AMES (Suma et al., ECCV 2024); its readme gives the values of `weight` and `temperature`."""

    checkpoint: Path | None = Field(None, description="None: rerankers/ames.safetensors of the index")
    top: Positive = Field(100, description="candidates looked at again")
    weight: Fraction | None = Field(
        None, description="of the global similarity, the paper's lambda; None: as tuned in training"
    )
    temperature: PositiveFloat | None = Field(
        None, description="factor on the logit, the paper's gamma; None: as the checkpoint says, 1 for an official one"
    )
    query_locals: Positive = Field(600, description="local descriptors of the query that are compared")
    gallery_locals: Positive = Field(50, description="and of each candidate")
    round_gallery: bool | None = Field(
        None, description="candidates' projected descriptors pass through float16; None: as the official code does"
    )
    batch_size: Positive = Field(128, description="pairs per forward pass")
    precision: Precision = Field("float32", description="of the transformer")


class CVNetConfig(_Section):
    """CVNet-Rerank (Lee et al., CVPR 2022)."""

    checkpoint: Path | None = Field(None, description="None: rerankers/cvnet.safetensors of the index")
    top: Positive = Field(100, description="candidates looked at again")
    weight: Fraction | None = Field(
        2 / 3, description="of the global similarity; the paper adds half the score to it, which is 2/3 to 1/3"
    )
    project: bool = Field(
        True,
        description="with the checkpoint's conv2ds, maps that were not when extracting; false: compared as they are",
    )
    precision: Precision = Field("float32", description="of products and convolutions")


class RerankConfig(_Section):
    """The second look: rerankers by name, applied one after the other."""

    chain: tuple[str, ...] = ("superglobal",)
    superglobal: SuperGlobalConfig = SuperGlobalConfig()
    rrt: RRTConfig = RRTConfig()
    rrt_sop: RRTSOPConfig = RRTSOPConfig()
    ames: AMESConfig = AMESConfig()
    cvnet: CVNetConfig = CVNetConfig()


class SearchConfig(_Section):
    """What a search returns."""

    top_k: Positive = Field(10, description="results shown per query")
    skip_itself: bool = Field(False, description="leave out the query's own file where the index holds it")


class RRTModelConfig(_Section):
    """Shape of a Reranking Transformer that is trained here; the paper's has 6 layers, 1024 and 500 locals."""

    heads: Positive = 4
    layers: Positive = 2
    feedforward: Positive = 256
    dropout: Fraction = 0.0
    locals: Positive = Field(16, description="how many local descriptors of each picture it compares")


class TrainRerankConfig(_Section):
    """How `train-rerank` learns from the store's own candidates."""

    reranker: str = "rrt"
    out: Path | None = Field(None, description="None: rerankers/NAME.safetensors of the index")
    split: str | None = Field(None, description="learn from this split only; None: from every labelled picture")
    hold_out: Literal["labels", "sessions"] = Field(
        "labels", description="what chooses epoch and weight: labels never learnt from, or new pictures of learnt ones"
    )
    validation: Fraction = Field(0.2, description="of the labels, or of each label's pictures, held out")
    candidates: Positive = Field(100, description="negatives come from so many of the store's first answers")
    model: RRTModelConfig = RRTModelConfig()
    shrinkage: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="of the within-class covariance that projects the globals"
    )
    epochs: Positive = 6
    triplets: Positive = Field(6400, description="per epoch")
    batch_size: Positive = Field(64, description="triplets per step")
    learning_rate: PositiveFloat = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    average: Fraction = Field(0.99, description="of the moving average of the weights, per step")
    warmup: Fraction = Field(0.05, description="of all steps")
    validation_queries: Positive = Field(100, description="at most so many held-out pictures are searched per epoch")


class EvaluateConfig(_Section):
    """What `evaluate` measures."""

    protocol: str = "labels"
    split: str | None = Field(None, description="queries and gallery are this split only; None: everything")


class Config(_Section):
    """A whole run."""

    index: Path = Field(Path("relook-index"), description="the index directory")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    catalog: CatalogConfig = CatalogConfig()
    describe: DescribeConfig = DescribeConfig()
    extract: ExtractConfig = ExtractConfig()
    store: StoreConfig = StoreConfig()
    rerank: RerankConfig = RerankConfig()
    search: SearchConfig = SearchConfig()
    train_rerank: TrainRerankConfig = TrainRerankConfig()
    evaluate: EvaluateConfig = EvaluateConfig()


def load_config(file: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration.

    Args:
        file: a YAML file of any subset of `Config`; None: the defaults.
        overrides: "a.b=value" each, applied after the file; the value is read as YAML.

    Raises:
        UsageError: the file cannot be read, a key is unknown, or a value is not of its type.
    """
    values = _read_yaml(file) if file else {}
    if file:
        parse_config(values, source=str(file))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {override}: expected KEY=VALUE, such as describe.image.size=224")
        _put(values, key.strip().split("."), _parse(override, text))
    return parse_config(values, source="--set")


def parse_config(values: Mapping[str, Any], source: str) -> Config:
    """Build a `Config` from nested plain values. Raises UsageError naming `source`, the key and the value."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{source}: {_explain(error)}") from None


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot read the configuration ({error})") from None
    except YAML_ERRORS as error:
        raise UsageError(f"{file}: not valid YAML ({' '.join(str(error).split())})") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{file}: expected keys and values, found {type(values).__name__}")
    return values


def _parse(override: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except YAML_ERRORS:
        raise UsageError(f"--set {override}: the value is not valid YAML; put it in quotes") from None


def _put(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            inner = values[key] = {}
        values = inner
    values[keys[-1]] = value


def _explain(error: ValidationError) -> str:
    first, *others = error.errors()
    location = _written(first["loc"])
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        nearest = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {'.'.join([*location[:-1], nearest[0]])}?" if nearest else f"known: {', '.join(known)}"
        return f"unknown key {key}; {hint}"
    reasons = [first["msg"], *(other["msg"] for other in others if _written(other["loc"]) == location)]
    return f"{key} = {first['input']!r}: {', or '.join(reasons)}"


def _written(location: Sequence[str | int]) -> list[str]:
    """The keys as the user wrote them: for a union pydantic appends the name of the member that it tried."""
    keys: list[str] = []
    model: Any = Config
    for part in location:
        fields = getattr(model, "model_fields", {})
        if fields or isinstance(part, int):
            keys.append(str(part))
        model = _section(fields[part].annotation) if part in fields else None
    return keys


def _fields_at(location: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Config
    for name in location:
        model = _section(model.model_fields[name].annotation)
    return sorted(model.model_fields)


def _section(annotation: Any) -> Any:
    """The section of a field that may also be None."""
    if isinstance(annotation, types.UnionType):
        return typing.get_args(annotation)[0]
    return annotation
