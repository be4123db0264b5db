"""A whole run: every section together, and those sections that are a few keys.

What stages are given. `load_config` of this package makes one from a file and from `--set`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.adapt import AdaptConfig
from pipeline.config.describe import DescribeConfig
from pipeline.config.paths import SOURCE
from pipeline.config.rerank import RerankConfig
from pipeline.config.serve import ServeConfig
from pipeline.config.store import StoreConfig
from pipeline.config.train_detector import TrainDetectorConfig
from pipeline.config.train_global import TrainGlobalConfig
from pipeline.config.train_rerank import TrainRerankConfig
from pipeline.settings import Positive, PositiveFloat, Section

# What operating systems, network drives and photo software keep beside photos: thumbnails, deleted files, snapshots.
EXCLUDE = (
    ".*",  # hidden ones: .thumbnails, .Trash-1000, ._IMG.jpg, .AppleDouble, .dtrash, .@__thumb
    "@eaDir",
    "@Recycle",
    "@Recently-Snapshot",
    "@tmp",
    "#recycle",
    "#snapshot",
    "$RECYCLE.BIN",
    "RECYCLER",
    "System Volume Information",
    "lost+found",
    "__MACOSX",
    "Network Trash Folder",
    "Temporary Items",
    "*.lrdata",
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
)

# Splits that figures are reported on: nothing may be chosen there.
TEST_SPLITS = frozenset({"test", "private"})


class CatalogConfig(Section):
    """Which images exist."""

    images: Annotated[str | None, SOURCE] = Field(
        None, description="a folder, a manifest or NAME:FOLDER; --images overrides it"
    )
    labels: Literal["none", "folder"] = Field(
        "none", description="labels of a folder: none, or the name of the parent folder"
    )
    labels_file: Path | None = Field(
        None, description="a table path,label whose labels replace a folder's; photos without a row keep theirs"
    )
    outside: Literal["refuse", "allow"] = Field(
        "refuse", description="paths of a manifest that lead out of its own folder: an absolute one, or one with .."
    )
    exclude: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        EXCLUDE,
        description="names of files and folders that are left out of a folder, in upper or lower case, with * and ?; "
        "with a / the path below the folder; null: none",
    )

    @property
    def options(self) -> dict[str, Any]:
        """How any source is read, as keywords for `load_catalog`."""
        return {"labels": self.labels, "outside": self.outside, "exclude": self.exclude}


class FetchConfig(Section):
    """How data sets are downloaded."""

    mirror: str | None = Field(None, description="the address of a mirror of the official hosts, with their paths")
    attempts: Positive = Field(5, description="how often in a row nothing may come before a file is given up")
    timeout: PositiveFloat = Field(30.0, description="seconds without a byte after which a connection counts as cut")

    @field_validator("mirror")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("expected an address that begins with http:// or https://")
        return value


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
    like_weight: Annotated[float, Field(ge=0)] = Field(
        0.75, description="beta of Rocchio: of the mean of the images of --like; the query's own weight is 1"
    )
    unlike_weight: Annotated[float, Field(ge=0)] = Field(
        0.15, description="gamma of Rocchio: of the mean of the images of --unlike, which is subtracted"
    )


class EvaluateConfig(Section):
    """What `evaluate` measures."""

    dataset: Annotated[str | None, SOURCE] = Field(
        None,
        description="a manifest or NAME:FOLDER, extracted where the index lacks it; null: the labels of the index",
    )
    protocol: str | None = Field(
        None,
        description="labels, revisited, revisited_published, gldv2, gldv2_recognition, products, classes or ilias; "
        "null: the data set's own",
    )
    split: str | None = Field(
        None,
        description="only this split of queries and gallery; of a data set with its own queries, of the queries; "
        "null: everything",
    )
    validation: str = Field("val", description="the only split that --sweep uses")
    report: Path | None = Field(None, description="a folder for evaluation.json, .csv and .md; null: none is written")
    fill: bool = Field(
        False, description="sync a hosted store with the index first, which costs money; others are synced as needed"
    )
    timed: Annotated[int, Field(ge=0)] = Field(
        32, description="queries that run one at a time, to measure the latency of each"
    )

    @model_validator(mode="after")
    def _nothing_is_chosen_on_a_test(self) -> Self:
        if self.validation in TEST_SPLITS:
            raise ValueError(f"validation = {self.validation}: figures are reported on that split, not chosen")
        return self


class Config(Section):
    """A whole run."""

    index: Path = Field(Path("relook-index"), description="the index directory")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    accept_license: tuple[str, ...] = Field(
        (), description="licences that are accepted, such as superpoint, whose weights are for non-commercial use"
    )
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
    train_detector: TrainDetectorConfig = TrainDetectorConfig()
    adapt: AdaptConfig = AdaptConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    serve: ServeConfig = ServeConfig()
