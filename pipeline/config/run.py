"""A whole run: every section together.

What stages are given. `load_config` of this package makes one from a file and from `--set`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.config.catalog import CatalogConfig
from pipeline.config.describe import DescribeConfig
from pipeline.config.evaluate import EvaluateConfig
from pipeline.config.fetch import FetchConfig
from pipeline.config.rerank import RerankConfig
from pipeline.config.store import StoreConfig
from pipeline.config.train import TrainGlobalConfig, TrainRerankConfig
from pipeline.settings import Positive, PositiveFloat, Section


class ExtractConfig(Section):
    """How extraction is run; nothing here changes a descriptor."""

    batch_size: Positive | None = Field(None, description="images per forward pass; null: 2 on a CPU, 64 on CUDA")
    workers: Positive | None = Field(None, description="threads that read and decode; null: one per core, 16 at most")
    decode_seconds: PositiveFloat = Field(
        60.0, description="time limit for reading and decoding one image; a slower one is listed among the failures"
    )
    part_size: Positive = Field(1024, description="images per committed part: a killed run loses at most this many")


class ReindexConfig(Section):
    """How an index is kept up to date; nothing here changes a descriptor."""

    keep: Positive = Field(3, description="generations that are kept for --rollback, the committed one included")
    small_parts: Positive = Field(
        16, description="with more parts than this below half of part_size, small parts are merged"
    )
    max_removed: float = Field(
        0.5, ge=0, le=1, description="share of the index's images; a run that misses more removes none and fails"
    )


class SearchConfig(Section):
    """What a search returns."""

    top_k: Positive = Field(10, description="results per query")
    skip_itself: bool = Field(False, description="leave the query's own file out of its results")


class Config(Section):
    """A whole run."""

    index: Path = Field(Path("relook-index"), description="the index directory")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    catalog: CatalogConfig = CatalogConfig()
    fetch: FetchConfig = FetchConfig()
    describe: DescribeConfig = DescribeConfig()
    extract: ExtractConfig = ExtractConfig()
    reindex: ReindexConfig = ReindexConfig()
    store: StoreConfig = StoreConfig()
    rerank: RerankConfig = RerankConfig()
    search: SearchConfig = SearchConfig()
    train_global: TrainGlobalConfig = TrainGlobalConfig()
    train_rerank: TrainRerankConfig = TrainRerankConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
