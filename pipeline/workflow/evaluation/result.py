"""An evaluation of an open gallery, from queries to the result.

Called by the verb, which first brings index and store up to date, and by `Gallery.evaluate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.evaluate import Scores, confidence_intervals, paired_difference
from pipeline.rerank import RerankStep
from pipeline.workflow.evaluation.measurement import Measurement, collect, measure, scored
from pipeline.workflow.evaluation.parts import about, read_parts, write_part
from pipeline.workflow.evaluation.provenance import bytes_per_image, extraction, provenance
from pipeline.workflow.evaluation.query_sets import EvaluationQueries, open_queries
from pipeline.workflow.opened_index import OpenedIndex
from pipeline.workflow.progress import Reporter


@dataclass(frozen=True)
class EvaluateResult:
    """What was measured. `before` and `after` hold the values of each query; `after` is None without re-ranking.

    Attributes:
        queries: that are in the means.
        unscored: queries without any positive, left out of the means.
        failed: photos that could not be read, now or when the index was extracted; left out too.
        ignored: queries that the data set says to ignore.
        seconds: of the global search and of the re-ranking, for all queries.
        details: what a report holds besides: costs, versions, configuration, and every query.
    """

    protocol: str
    dataset: str
    split: str | None
    queries: int
    gallery: int
    unscored: int
    failed: int
    ignored: int
    rerank: list[str]
    before: Scores
    after: Scores | None
    seconds: Mapping[str, float]
    weights: str
    details: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`; the keys are the CLI's contract, metrics in percent."""
        last = self.after or self.before
        return {
            "protocol": self.protocol,
            "dataset": self.dataset,
            "split": self.split,
            "queries": self.queries,
            "gallery": self.gallery,
            "unscored": self.unscored,
            "failed": self.failed,
            "ignored": self.ignored,
            "rerank": self.rerank,
            "global": self.before.summary(),
            "reranked": self.after.summary() if self.after else None,
            "difference": paired_difference(self.before, self.after) if self.after else None,
            "intervals": _percent(confidence_intervals(last)),
            "seconds": self.seconds,
            "weights": self.weights,
            **{key: self.details[key] for key in ("latency", "bytes_per_image", "extraction", "pairs")},
        }

    def to_report(self) -> dict[str, Any]:
        """Everything, for `evaluation.json`: the document, provenance, configuration, and the values of each query."""
        return {**self.to_json(), **self.details}


def evaluate_gallery(
    gallery: OpenedIndex,
    chain: Sequence[RerankStep],
    config: Config,
    queries: str | None,
    reporter: Reporter,
    parts: Path | None = None,
) -> EvaluateResult:
    """Measure the global search, and what a chain of rerankers changes.

    Args:
        gallery: what is searched.
        chain: the rerankers; none for the global search alone.
        config: `evaluate` matters here, and what queries are described with.
        queries: photos with labels; None: the data set's own queries, or every labelled image of the gallery.
        reporter: told about the progress.
        parts: the folder of the parts that shards wrote, which are joined; None: all queries are ranked here.

    Raises:
        UsageError: no such protocol, or it is not one for this data set.
        RelookError: images of the ground truth are not in the index, a part is missing or of another evaluation, or
            nothing can be scored.
    """
    query_set, names = _queries(gallery, chain, config, queries), [step.name for step in chain]
    if parts is None:
        measured = measure(gallery, [list(chain)] if chain else [], query_set, reporter, config.evaluate.timed)
    else:
        measured = scored(read_parts(parts, about(config, gallery, names, query_set)), query_set)
    return _result(config, gallery, names, query_set, measured)


def evaluate_part(
    gallery: OpenedIndex,
    chain: Sequence[RerankStep],
    config: Config,
    queries: str | None,
    reporter: Reporter,
    parts: Path,
    shard: int,
    shards: int,
) -> tuple[int, int]:
    """Rank the queries of one shard and write its part; how many were ranked, and how many could not be read.

    Args:
        gallery, chain, config, queries, reporter: see `evaluate_gallery`.
        parts: the folder of all parts.
        shard, shards: which of how many, from 1.
    """
    query_set, names = _queries(gallery, chain, config, queries), [step.name for step in chain]
    chains = [list(chain)] if chain else []
    found = collect(gallery, chains, query_set, reporter, config.evaluate.timed, shard, shards)
    write_part(parts, shard, shards, about(config, gallery, names, query_set), found)
    return len(found.numbers), found.failed


def _queries(
    gallery: OpenedIndex, chain: Sequence[RerankStep], config: Config, queries: str | None
) -> EvaluationQueries:
    needs = {need for step in chain for need in step.reranker.needs}
    return open_queries(config, gallery, needs, config.evaluate.dataset, queries)


def _result(
    config: Config, gallery: OpenedIndex, chain: list[str], query_set: EvaluationQueries, measured: Measurement
) -> EvaluateResult:
    index, after = gallery.index, measured.after[0] if measured.after else None
    costs = {
        "latency": _latency(measured.single),
        "bytes_per_image": bytes_per_image(index),
        "extraction": extraction(config.index),
        "pairs": measured.pairs,
    }
    return EvaluateResult(
        protocol=query_set.protocol.name,
        dataset=config.evaluate.dataset or str(config.index),
        split=config.evaluate.split,
        queries=len(measured.numbers) - measured.before.unscored,
        gallery=query_set.size,
        unscored=measured.before.unscored,
        failed=query_set.failed + measured.failed,
        ignored=query_set.ignored,
        rerank=chain,
        before=measured.before,
        after=after,
        seconds={"search": 0.0, "rerank": 0.0, **measured.seconds},
        weights=index.card.weights,
        details={
            **costs,
            "headline": query_set.protocol.headline,
            "global_intervals": _percent(confidence_intervals(measured.before)),
            "curves": dict(zip(("global", "reranked"), measured.curves, strict=False)),
            "provenance": provenance(config, index),
            "configuration": _resolved(config),
            "per_query": _per_query(gallery, query_set, measured),
        },
    )


def _latency(single: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Milliseconds of one query by stage."""
    return {
        stage: {
            "queries": len(values),
            "median_ms": round(1000 * float(np.median(values)), 2),
            "p95_ms": round(1000 * float(np.percentile(values, 95)), 2),
        }
        for stage, values in single.items()
    }


def _resolved(config: Config) -> dict[str, Any]:
    """Every value; of the describer those that were set, since the others are its own and stand on the model card."""
    describe = config.describe.model_dump(mode="json", exclude_unset=True)
    return {**config.model_dump(mode="json"), "describe": describe}


def _percent(intervals: Mapping[str, tuple[float, float]]) -> dict[str, list[float]]:
    return {name: [round(100 * end, 2) for end in ends] for name, ends in intervals.items()}


def _per_query(gallery: OpenedIndex, query_set: EvaluationQueries, measured: Measurement) -> list[dict[str, Any]]:
    """One plain object per query that could be read, in the order of the query set.

    "query" is its id; "path", "bbox" and "label" are those of the query; "global" and "reranked" are metrics as
    fractions, None where the query cannot be scored; "answers" has the first ids of both rankings, each with its path
    and "relevance": the group it belongs to, "" for none. With many queries there are no "answers".
    """
    rows = []
    for place, number in enumerate(measured.numbers):
        record = query_set.records[number]
        row: dict[str, Any] = {
            "query": record.id,
            "path": query_set.file(number),
            "bbox": record.bbox,
            "label": record.label,
            "global": _values(measured.before, place),
            "reranked": _values(measured.after[0], place) if measured.after else None,
        }
        if measured.shown:
            names = ("global", "reranked")
            found = measured.shown[place]
            row["answers"] = {
                name: _answers(gallery, query_set, number, ids) for name, ids in zip(names, found, strict=False)
            }
        rows.append(row)
    return rows


def _answers(
    gallery: OpenedIndex, query_set: EvaluationQueries, number: int, ids: Sequence[str]
) -> list[dict[str, str]]:
    groups, shown = query_set.groups(number), set(query_set.labels(number))
    answers = []
    for name in ids:
        record = gallery.index.records[name]
        relevance = next((group for group, members in groups.items() if name in members), "")
        if query_set.protocol.reads_labels and record.label in shown:
            relevance = "label"
        path = str(gallery.index.image_file(record))
        answers.append({"id": name, "path": path, "label": record.label, "relevance": relevance})
    return answers


def _values(scores: Scores, place: int) -> dict[str, float | None]:
    values = {name: float(column[place]) for name, column in scores.per_query.items()}
    return {name: None if np.isnan(value) else value for name, value in values.items()}
