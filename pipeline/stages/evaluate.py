"""`evaluate`: the metrics of the global search and of the re-ranked results.

Last verb of the flow. A data set that is not in the index yet is extracted first. Queries are those of the data set, or
every labelled image; a query is never its own result.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.catalog import load_catalog
from pipeline.config import Config
from pipeline.files import object_path
from pipeline.report import write_evaluation
from pipeline.stages.extract import extract
from pipeline.stages.upload import upload
from pipeline.stores import Index
from pipeline.stores.index.manifest import NAME
from pipeline.workflow.bucket_index import local_copy
from pipeline.workflow.evaluation.result import EvaluateResult, evaluate_gallery, evaluate_part
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.progress import Reporter, Silent, logger
from pipeline.workflow.shares import parse_shard


@dataclass(frozen=True)
class PartSummary:
    """What a run of one shard did: its part's folder, "K/N", and counts of queries."""

    parts: str
    shard: str
    queries: int
    failed: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self)


def evaluate(
    config: Config,
    images: str | None = None,
    queries: str | None = None,
    reporter: Reporter | None = None,
    *,
    parts: Path | None = None,
) -> EvaluateResult:
    """Measure.

    Args:
        config: `index`, `store`, `rerank` and `evaluate` matter here, and what `extract` reads.
        images: in place of `evaluate.dataset`.
        queries: photos with labels; None: the data set's own queries, or every labelled image of the gallery.
        reporter: told about the progress.
        parts: a folder of parts that `evaluate_shard` wrote, which are joined; None: all queries are ranked here.

    Raises:
        UsageError: no such protocol, or it is not one for this data set.
        RelookError: images of the ground truth are not in the index, a part is missing or of another evaluation, or
            nothing can be scored.
    """
    reporter, config = reporter or Silent(), _with_dataset(config, images)
    if object_path(config.index) is None and parts is None:
        bring_up_to_date(config, reporter)
    config = local_copy(config)
    with open_gallery(config, partial="error") as gallery:
        result = evaluate_gallery(gallery, gallery.chain(), config, queries, reporter, parts)
    if config.evaluate.report is not None:
        write_evaluation(config.evaluate.report, result.to_report())
    return result


def evaluate_shard(
    config: Config,
    shard: str,
    parts: Path,
    images: str | None = None,
    queries: str | None = None,
    reporter: Reporter | None = None,
) -> PartSummary:
    """Rank the queries of one shard, beside other processes; `evaluate` with `parts` joins them.

    Index and store have to be up to date: no shard changes them.

    Args:
        config, images, queries, reporter: see `evaluate`.
        shard: "K/N".
        parts: the folder that all shards write to.

    Raises:
        UsageError, RelookError: as for `evaluate`.
    """
    started, (number, count) = time.monotonic(), parse_shard(shard)
    config = local_copy(_with_dataset(config, images))
    with open_gallery(config, partial="error") as gallery:
        ranked, failed = evaluate_part(
            gallery, gallery.chain(), config, queries, reporter or Silent(), parts, number, count
        )
    return PartSummary(str(parts), f"{number}/{count}", ranked, failed, round(time.monotonic() - started, 2))


def _with_dataset(config: Config, images: str | None) -> Config:
    if images is None:
        return config
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"dataset": images})})


def bring_up_to_date(config: Config, reporter: Reporter) -> None:
    """Extract the data set where the index lacks images of it, and sync a store that is empty or out of date.

    Writes to a hosted store cost money: it is synced only with `evaluate.fill`; opening it says what it lacks.
    """
    source = config.evaluate.dataset
    lacking = source is not None and _lacks(config, source)
    if source is not None and lacking:
        logger.info("%s: %s lacks images of it; they are extracted first", source, config.index)
        extract(config, source, reporter)
    store = open_gallery(config, searched=False).store
    if store.index_backed or (store.hosted and not config.evaluate.fill):
        return
    if store.hosted or lacking or (source is not None and not store.stats()["count"]):
        upload(config, reporter)


def _lacks(config: Config, source: str) -> bool:
    """Whether images of a data set are to be extracted.

    An index that holds other images too is left alone: an extraction would remove them.
    """
    if not (config.index / NAME).exists():
        return True
    index = Index(config.index)
    known = index.records.keys() | set(index.failures())
    wanted = {record.id for record in load_catalog(source, **config.catalog.options)}
    return not wanted <= known and index.records.keys() <= wanted
