"""A whole run: every section together.

What stages are given. `load_config` of this package makes one from a file and from `--set`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.describe import DescribeConfig
from pipeline.config.rerank import RerankConfig
from pipeline.config.section import Fraction, Positive, PositiveFloat, Section


class CatalogConfig(Section):
    """Which images exist."""

    labels: Literal["none", "folder"] = Field("none", description="for a folder: no labels, or the parent folder")


class ExtractConfig(Section):
    """How extraction is run; nothing here changes a descriptor."""

    batch_size: Positive | None = Field(None, description="pictures per forward pass; None: 2 on a CPU, 64 on CUDA")
    workers: Positive | None = Field(None, description="threads that read and decode; None: one per core, 16 at most")
    part_size: Positive = Field(1024, description="pictures per committed part: at most so many are lost by a kill")


class StoreConfig(Section):
    """Where global descriptors are searched."""

    kind: str = Field("table", description="table (Parquet) or csv: the index's own tables, searched exactly")


class SearchConfig(Section):
    """What a search returns."""

    top_k: Positive = Field(10, description="results shown per query")
    skip_itself: bool = Field(False, description="leave out the query's own file where the index holds it")


class RRTModelConfig(Section):
    """Shape of a Reranking Transformer that is trained here; the paper's has 6 layers, 1024 and 500 locals."""

    heads: Positive = 4
    layers: Positive = 2
    feedforward: Positive = 256
    dropout: Fraction = 0.0
    locals: Positive = Field(16, description="how many local descriptors of each picture it compares")


class TrainRerankConfig(Section):
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


class EvaluateConfig(Section):
    """What `evaluate` measures."""

    protocol: str = "labels"
    split: str | None = Field(None, description="queries and gallery are this split only; None: everything")


class Config(Section):
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
