"""`info`: what an index holds, what made it, and how fresh it is.

Reads the index directory alone, without a network or a service.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.stores import Index, open_store
from pipeline.stores.index.manifest import STAGED, read_manifest
from pipeline.stores.index.retention import read_earlier
from pipeline.workflow.bucket_index import local_copy, shown_index
from pipeline.workflow.collection import nearest_similarity
from pipeline.workflow.fusion.fusion_file import fusion_path, read_fusion
from pipeline.workflow.indexing.sharding.exchange import exchange_of
from pipeline.workflow.progress import Reporter, Silent
from pipeline.workflow.rerank_chain import default_chain


@dataclass(frozen=True)
class InfoResult:
    """What is known of an index.

    Attributes:
        index: the directory.
        format, generation, complete, updated: of `index.json`; complete when the run that made the generation ended.
        age_seconds: since it was committed.
        images, parts, deleted: images, parts, and rows that the next compaction drops.
        failures: images that the last run could not read.
        labels: "labels" (how many different ones), "labelled" and "distractors" (images).
        splits: images by split; empty where no image has one.
        model: the model card.
        fingerprint: of the model card.
        keypoints: what made the keypoints: the fields of their card and "stored"; None where there are none.
        representations: by kind, "bytes" on disk and "bytes_per_image".
        earlier: generations that can be returned to, oldest first: "generation", "updated", "images".
        changing: a change of model that is under way: "fingerprint", "images"; None where there is none.
        shards: an extraction that is divided and not joined yet: "began", "source", "shards" (how many), "done" (how
            many), and "missing": of each that is not, "shard", "images", "described" and "state"; None: there is none.
        rerankers: trained for this index: "name", "file", "bytes", and "fits" (whether for its present model).
        default_chain: rerankers of searches that name none, as `train-rerank --default` set them, or with matching
            where XFeat's keypoints are kept; None: SuperGlobal, or what a configuration names.
        fusion: of `relook calibrate`: "chain", "file", and "fits" (whether for its present model); None: there is none.
        stores: where its global descriptors can be searched: "kind", "place" and "vectors" (None: not known here).
        last_run: of the last report: "verb", "time", "outcome"; None where no run left one.
    """

    index: str
    format: int
    generation: int
    complete: bool
    updated: str
    age_seconds: int
    images: int
    parts: int
    deleted: int
    failures: int
    labels: Mapping[str, int]
    splits: Mapping[str, int]
    model: Mapping[str, Any]
    fingerprint: str
    keypoints: Mapping[str, Any] | None
    representations: Mapping[str, Mapping[str, float]]
    earlier: list[dict[str, Any]]
    changing: dict[str, Any] | None
    shards: dict[str, Any] | None
    rerankers: list[dict[str, Any]]
    default_chain: list[str] | None
    fusion: dict[str, Any] | None
    stores: list[dict[str, Any]]
    last_run: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class Outlier:
    """An image that is like no other; `similarity` is its cosine to the most similar one."""

    id: str
    path: str
    label: str
    similarity: float


def info(config: Config) -> InfoResult:
    """Describe the index at `config.index`. Raises RelookError when there is none, or it is damaged."""
    config = local_copy(given := config)
    index = Index(config.index)
    manifest = index.manifest
    labels, splits = _labels(index)
    return InfoResult(
        index=shown_index(given),
        format=manifest.format,
        generation=manifest.generation,
        complete=manifest.complete,
        updated=manifest.updated,
        age_seconds=_age(manifest.updated),
        images=manifest.counts.get("images", 0),
        parts=len(manifest.parts),
        deleted=sum(len(part.deleted) for part in manifest.parts),
        failures=len(index.failures()),
        labels=labels,
        splits=splits,
        model=index.card.to_json(),
        fingerprint=manifest.fingerprint,
        keypoints=manifest.keypoints.model_dump() if manifest.keypoints else None,
        representations=_representations(index),
        earlier=_earlier(index),
        changing=_changing(index),
        shards=_shards(given.index),
        rerankers=_rerankers(index),
        default_chain=None if (chain := default_chain(config.index, index.keypoints_card)) is None else list(chain),
        fusion=_fusion(index),
        stores=_stores(config, index),
        last_run=_last_run(index.directory),
    )


def outliers(config: Config, count: int, reporter: Reporter | None = None) -> list[Outlier]:
    """The `count` images that are least similar to any other one, the loneliest first.

    Every pair of images is compared; there are none where the index has fewer than two images.
    """
    index = Index(local_copy(config).index)
    images = index.manifest.counts.get("images", 0)
    if images < 2:
        return []
    with (reporter or Silent()).bar("outliers", images, "images") as bar:
        similarity = nearest_similarity(index, bar.advance)
    rows = np.argsort(similarity, kind="stable")[:count].tolist()
    records = [record for part in index.manifest.parts for record in index.records_of(part)]
    return [
        Outlier(records[row].id, str(index.image_file(records[row])), records[row].label, round(float(value), 4))
        for row, value in zip(rows, similarity[rows], strict=True)
    ]


def failures(config: Config) -> list[dict[str, str]]:
    """ "id", "path" and "reason" of the images that the last run could not read."""
    rows = Index(local_copy(config).index).failure_rows()
    return [{"id": name, "path": path, "reason": reason} for name, path, reason in rows]


def _labels(index: Index) -> tuple[dict[str, int], dict[str, int]]:
    """Counts of labels and splits, read part by part."""
    labels: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    for part in index.manifest.parts:
        for record in index.records_of(part) if "catalog" in part.files else ():
            labels[record.label] += 1
            splits[record.split] += 1
    distractors = labels.pop("", 0)
    counts = {"labels": len(labels), "labelled": sum(labels.values()), "distractors": distractors}
    return counts, {} if splits.keys() <= {""} else dict(sorted(splits.items()))


def _representations(index: Index) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for part in index.manifest.parts:
        for kind, file in part.files.items():
            entry = found.setdefault(kind, {"bytes": 0, "rows": 0})
            entry["bytes"] += file.bytes
            entry["rows"] += part.rows
    return {
        kind: {"bytes": entry["bytes"], "bytes_per_image": round(entry["bytes"] / entry["rows"], 1)}
        for kind, entry in found.items()
    }


def _earlier(index: Index) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for file in index.manifest.earlier:
        try:
            manifest = read_earlier(index.directory, file)
        except RelookError as error:
            found.append({"generation": None, "updated": None, "images": None, "error": str(error)})
            continue
        images = manifest.counts.get("images", 0)
        found.append({"generation": manifest.generation, "updated": manifest.updated, "images": images})
    return found


def _changing(index: Index) -> dict[str, Any] | None:
    if not (index.directory / STAGED).exists():
        return None
    staged = read_manifest(index.directory, STAGED)
    return {"fingerprint": staged.fingerprint, "images": staged.counts.get("images", 0)}


def _shards(directory: Path) -> dict[str, Any] | None:
    exchange = exchange_of(directory)
    plan = exchange.plan()
    if plan is None:
        return None
    missing = [asdict(one) for one in exchange.states(plan) if one.state != "done"]
    done = plan.shards - len(missing)
    return {"began": plan.began, "source": plan.source, "shards": plan.shards, "done": done, "missing": missing}


def _rerankers(index: Index) -> list[dict[str, Any]]:
    """Checkpoints below `rerankers/`, and whether their header names the index's model."""
    found = []
    for file in sorted((index.directory / "rerankers").glob("*.safetensors")):
        if file.stem.endswith(".last"):
            continue
        header = _header(file)
        card = header.get("card")
        fits = isinstance(card, dict) and card == index.card.to_json()
        name = str(header.get("name", file.stem))
        found.append({"name": name, "file": str(file), "bytes": file.stat().st_size, "fits": fits})
    return found


def _fusion(index: Index) -> dict[str, Any] | None:
    fusion = read_fusion(index.directory)
    if fusion is None:
        return None
    fits = fusion.fingerprint == index.manifest.fingerprint
    return {"chain": list(fusion.chain), "file": str(fusion_path(index.directory)), "fits": fits}


def _header(file: Path) -> dict[str, Any]:
    try:
        with safe_open(file, framework="np") as tensors:
            header = json.loads((tensors.metadata() or {}).get("relook", "{}"))
    except (OSError, ValueError, SafetensorError) as error:
        raise RelookError(f"{file}: cannot be read ({error})") from None
    return header if isinstance(header, dict) else {}


def _stores(config: Config, index: Index) -> list[dict[str, Any]]:
    count = index.manifest.counts.get("images", 0)
    own = "csv" if index.manifest.tables == "csv" else "table"
    found: list[dict[str, Any]] = [{"kind": own, "place": str(index.directory), "vectors": count}]
    base = config.store.ann.directory or index.directory / "ann"
    if (base / index.manifest.fingerprint).is_dir():
        vectors = open_store("ann", index, **config.store.ann.model_dump()).stats()["count"]
        found.append({"kind": "ann", "place": str(base), "vectors": vectors})
    for file in sorted((index.directory / "uploads").glob("*.json")):
        journal = _document(file)
        if journal is not None:
            kind = file.name.partition("-")[0]
            found.append({"kind": kind, "place": str(journal.get("place", "")), "vectors": None})
    return found


def _last_run(directory: Path) -> dict[str, Any] | None:
    report = _document(directory / "runs" / "latest.json")
    if report is None:
        return None
    return {"verb": report.get("verb"), "time": report.get("time"), "outcome": report.get("outcome", "done")}


def _document(file: Path) -> dict[str, Any] | None:
    """A report or journal; None where it is missing or damaged, since neither decides anything."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _age(updated: str) -> int:
    try:
        return max(0, round((datetime.now(UTC) - datetime.fromisoformat(updated)).total_seconds()))
    except (ValueError, TypeError):  # a manifest of the first format has no time
        return 0
